//! The jobs in Zig without any bindings: each export is named and laid out as the canonical ABI asks
//! (https://github.com/WebAssembly/component-model, CanonicalABI.md), so the component imports nothing at all.

const std = @import("std");

const prefix = "omniq:polyglot/jobs@0.1.0#";

/// Holds the arguments and the result of one call; emptied once the host has read the result.
var arena: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);

fn realloc(old: ?[*]u8, old_len: usize, alignment: usize, len: usize) callconv(.c) [*]u8 {
    const bytes = arena.allocator().rawAlloc(len, .fromByteUnits(alignment), @returnAddress()) orelse
        @trap();
    if (old) |from| @memcpy(bytes[0..@min(old_len, len)], from[0..@min(old_len, len)]);
    return bytes;
}

fn release(_: *const anyopaque) callconv(.c) void {
    _ = arena.reset(.retain_capacity);
}

const String = extern struct {
    ptr: [*]const u8,
    len: usize,

    fn print(comptime format: []const u8, arguments: anytype) String {
        const text = std.fmt.allocPrint(arena.allocator(), format, arguments) catch @trap();
        return .{ .ptr = text.ptr, .len = text.len };
    }
};

const Summary = extern struct { count: u32, mean: f64, minimum: f64, maximum: f64 };

const Parsed = extern struct {
    is_err: u8,
    payload: extern union { ok: u32, err: String },
};

/// Where results of more than one word are left for the host.
var result: extern union { string: String, summary: Summary, parsed: Parsed } = undefined;

fn add(a: i32, b: i32) callconv(.c) i32 {
    return a +% b;
}

fn greet(ptr: [*]const u8, len: usize) callconv(.c) *const anyopaque {
    result = .{ .string = .print("Hello, {s}!", .{ptr[0..len]}) };
    return &result;
}

fn stats(ptr: [*]const f64, len: usize) callconv(.c) *const anyopaque {
    const nan = std.math.nan(f64);
    var summary: Summary = .{ .count = @intCast(len), .mean = nan, .minimum = nan, .maximum = nan };
    if (len > 0) {
        var sum: f64 = 0;
        for (ptr[0..len]) |value| sum += value;
        summary.mean = sum / @as(f64, @floatFromInt(len));
        summary.minimum = std.mem.min(f64, ptr[0..len]);
        summary.maximum = std.mem.max(f64, ptr[0..len]);
    }
    result = .{ .summary = summary };
    return &result;
}

fn parse(ptr: [*]const u8, len: usize) callconv(.c) *const anyopaque {
    const text = ptr[0..len];
    result = .{ .parsed = if (digits(text)) |number|
        .{ .is_err = 0, .payload = .{ .ok = number } }
    else
        .{ .is_err = 1, .payload = .{ .err = .print("not a number: {s}", .{text}) } } };
    return &result;
}

fn digits(text: []const u8) ?u32 {
    // `parseInt` alone would take a sign and underscores.
    for (text) |byte| if (!std.ascii.isDigit(byte)) return null;
    return std.fmt.parseInt(u32, text, 10) catch null;
}

fn checksum(ptr: [*]const u8, len: usize) callconv(.c) u64 {
    defer release(ptr);
    return std.hash.Fnv1a_64.hash(ptr[0..len]);
}

comptime {
    @export(&realloc, .{ .name = "cabi_realloc" });
    @export(&add, .{ .name = prefix ++ "add" });
    @export(&greet, .{ .name = prefix ++ "greet" });
    @export(&stats, .{ .name = prefix ++ "stats" });
    @export(&parse, .{ .name = prefix ++ "parse" });
    @export(&checksum, .{ .name = prefix ++ "checksum" });
    for (.{ "greet", "stats", "parse" }) |name| {
        @export(&release, .{ .name = "cabi_post_" ++ prefix ++ name });
    }
}
