// The jobs in C. `worker.h` is made from `wit/` by wit-bindgen: names, types and who frees what.

#include "worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// `before`, `text` and `after` in memory that the caller of the job frees.
static worker_string_t joined(const char *before, worker_string_t text, const char *after) {
    size_t head = strlen(before), tail = strlen(after);
    worker_string_t all = {.len = head + text.len + tail};
    all.ptr = malloc(all.len);
    if (all.ptr == NULL) {
        abort();
    }
    memcpy(all.ptr, before, head);
    memcpy(all.ptr + head, text.ptr, text.len);
    memcpy(all.ptr + head + text.len, after, tail);
    return all;
}

int32_t exports_omniq_polyglot_jobs_add(int32_t a, int32_t b) {
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

void exports_omniq_polyglot_jobs_greet(worker_string_t *name, worker_string_t *ret) {
    *ret = joined("Hello, ", *name, "!");
    worker_string_free(name);
}

void exports_omniq_polyglot_jobs_stats(worker_list_f64_t *values,
                                       exports_omniq_polyglot_jobs_summary_t *ret) {
    *ret = (exports_omniq_polyglot_jobs_summary_t){values->len, NAN, NAN, NAN};
    double sum = 0;
    for (size_t i = 0; i < values->len; i++) {
        sum += values->ptr[i];
        ret->minimum = fmin(ret->minimum, values->ptr[i]); // ignores the NaN it starts with
        ret->maximum = fmax(ret->maximum, values->ptr[i]);
    }
    if (values->len > 0) {
        ret->mean = sum / values->len;
    }
    worker_list_f64_free(values);
}

bool exports_omniq_polyglot_jobs_parse(worker_string_t *text, uint32_t *ret, worker_string_t *err) {
    uint64_t number = 0;
    bool valid = text->len > 0;
    for (size_t i = 0; i < text->len && valid; i++) {
        valid = text->ptr[i] >= '0' && text->ptr[i] <= '9';
        number = number * 10 + (text->ptr[i] - '0');
        valid = valid && number <= UINT32_MAX;
    }
    if (valid) {
        *ret = number;
    } else {
        *err = joined("not a number: ", *text, "");
    }
    worker_string_free(text);
    return valid;
}

uint64_t exports_omniq_polyglot_jobs_checksum(worker_list_u8_t *data) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < data->len; i++) {
        hash = (hash ^ data->ptr[i]) * 0x100000001b3;
    }
    worker_list_u8_free(data);
    return hash;
}
