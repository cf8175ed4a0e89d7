// A command in C: counts the lines, words and bytes of its input, and takes no arguments.

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc > 1) {
        fprintf(stderr, "unexpected argument: %s\n", argv[1]);
        return 1;
    }
    unsigned long lines = 0, words = 0, bytes = 0;
    bool inside = false;
    for (int c; (c = getchar()) != EOF; bytes++) {
        lines += c == '\n';
        words += !inside && !isspace(c);
        inside = !isspace(c);
    }
    printf("%lu %lu %lu\n", lines, words, bytes);
    return ferror(stdin) != 0;
}
