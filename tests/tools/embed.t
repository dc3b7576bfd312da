#!/usr/bin/env bash
# tools/embed keeps every byte: backslashes, quotes, trigraphs, UTF-8, NUL, no final newline (MIG-1).
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR

mkdir "$dir/in"
# shellcheck disable=SC1003
printf 'select E'\''\\n\\\\ \\101'\'', "x" -- ??= ??/ %%s\n' >"$dir/in/0002_odd.sql"
printf 'grüße 🚂\r\n\tno final newline' >"$dir/in/0010_utf8.sql"
printf '' >"$dir/in/0003_empty.sql"
python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 2 + b"12\0003\n\n")' >"$dir/in/0001_bytes.sql"
cat >"$dir/list.h" <<'C'
#include <stddef.h>
struct file { const char *name; const char *text; size_t length; };
extern const struct file some[];
extern const size_t some_count;
extern const size_t none_count;
extern const struct file none[];
C
cat >"$dir/write.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include "list.h"
int main(int argc, char **argv)
{
    (void)argc;
    printf("%zu %zu", some_count, none_count);
    for (size_t i = 0; i < some_count; i++) {
        char path[4096];
        FILE *out;
        snprintf(path, sizeof path, "%s/%s", argv[1], some[i].name);
        out = fopen(path, "wb");
        if (out == NULL || fwrite(some[i].text, 1, some[i].length, out) != some[i].length || fclose(out) != 0)
            exit(1);
        printf(" %s", some[i].name);
    }
    return 0;
}
C
tools/embed --output "$dir/out.c" --header list.h --type 'struct file' \
    --array some "$dir"/in/0010_utf8.sql "$dir"/in/0002_odd.sql "$dir"/in/0003_empty.sql "$dir"/in/0001_bytes.sql \
    --array none
is "$(LC_ALL=C tr -d ' -~\n' <"$dir/out.c")" "" "the C source is plain ASCII"
compiled=0
cc -Wall -Wextra -Werror -trigraphs -I"$dir" -o "$dir/write" "$dir/out.c" "$dir/write.c" || compiled=$?
ok $compiled "it compiles without a warning, trigraphs on"
mkdir "$dir/back"
is "$("$dir/write" "$dir/back")" "4 0 0001_bytes.sql 0002_odd.sql 0003_empty.sql 0010_utf8.sql" \
    "files are sorted by name; an array without files has count 0"
for file in "$dir"/in/*; do
    same=0
    cmp "$file" "$dir/back/$(basename "$file")" >&2 || same=$?
    ok $same "$(basename "$file") is the same byte for byte"
done
mkdir "$dir/twice"
cp "$dir/in/0002_odd.sql" "$dir/twice/"
status=0
message=$(tools/embed --output "$dir/x.c" --header list.h --type 'struct file' \
    --array some "$dir/in/0002_odd.sql" "$dir/twice/0002_odd.sql" 2>&1) || status=$?
is "$status $message" "1 embed: two files of the same name in some" "two files of one name are refused"
finish
