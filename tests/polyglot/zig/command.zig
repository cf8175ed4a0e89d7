//! A command in Zig: counts the lines, words and bytes of its input, and takes no arguments.

const std = @import("std");

pub fn main(init: std.process.Init) !u8 {
    var buffer: [4096]u8 = undefined;
    const arguments = try init.minimal.args.toSlice(init.arena.allocator());
    if (arguments.len > 1) {
        var stderr = std.Io.File.stderr().writer(init.io, &buffer);
        try stderr.interface.print("unexpected argument: {s}\n", .{arguments[1]});
        try stderr.interface.flush();
        return 1;
    }
    var lines: u64 = 0;
    var words: u64 = 0;
    var bytes: u64 = 0;
    var inside = false;
    // Streaming: the plain reader reads by position, which standard input has none of under WASI 0.2.
    var stdin = std.Io.File.stdin().readerStreaming(init.io, &buffer);
    while (stdin.interface.takeByte()) |byte| : (bytes += 1) {
        const space = std.ascii.isWhitespace(byte);
        if (byte == '\n') lines += 1;
        if (!inside and !space) words += 1;
        inside = !space;
    } else |err| if (err != error.EndOfStream) return err;
    var stdout = std.Io.File.stdout().writer(init.io, &buffer);
    try stdout.interface.print("{d} {d} {d}\n", .{ lines, words, bytes });
    try stdout.interface.flush();
    return 0;
}
