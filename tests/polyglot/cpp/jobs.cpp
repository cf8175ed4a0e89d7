// The jobs in C++, with the standard library; `worker.h` is made from `wit/` by wit-bindgen.

#include "worker.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string>
#include <string_view>

namespace {

std::string_view view(const worker_string_t &text) {
    return {reinterpret_cast<const char *>(text.ptr), text.len};
}

// A copy in memory that the caller of the job frees.
void give(worker_string_t *to, std::string_view text) {
    worker_string_dup_n(to, text.data(), text.size());
}

} // namespace

int32_t exports_omniq_polyglot_jobs_add(int32_t a, int32_t b) {
    return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

void exports_omniq_polyglot_jobs_greet(worker_string_t *name, worker_string_t *ret) {
    give(ret, "Hello, " + std::string(view(*name)) + "!");
    worker_string_free(name);
}

void exports_omniq_polyglot_jobs_stats(worker_list_f64_t *list,
                                       exports_omniq_polyglot_jobs_summary_t *ret) {
    const std::span<const double> values(list->ptr, list->len);
    *ret = {static_cast<uint32_t>(values.size()), NAN, NAN, NAN};
    if (!values.empty()) {
        ret->mean = std::accumulate(values.begin(), values.end(), 0.0) / values.size();
        const auto [minimum, maximum] = std::ranges::minmax(values);
        ret->minimum = minimum;
        ret->maximum = maximum;
    }
    worker_list_f64_free(list);
}

bool exports_omniq_polyglot_jobs_parse(worker_string_t *text, uint32_t *ret, worker_string_t *err) {
    const std::string_view digits = view(*text);
    const auto [end, error] = std::from_chars(digits.begin(), digits.end(), *ret);
    const bool valid = error == std::errc() && end == digits.end();
    if (!valid) {
        give(err, "not a number: " + std::string(digits));
    }
    worker_string_free(text);
    return valid;
}

uint64_t exports_omniq_polyglot_jobs_checksum(worker_list_u8_t *data) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const uint8_t byte : std::span(data->ptr, data->len)) {
        hash = (hash ^ byte) * 0x100000001b3;
    }
    worker_list_u8_free(data);
    return hash;
}
