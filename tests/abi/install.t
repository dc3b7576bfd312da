#!/usr/bin/env bash
# What is installed is what a stranger needs: header alone in C99 and C++, pkg-config for shared and
# static linking, soname 0, and exactly the functions of the header exported (DOC-2).
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR

status=0
output=$(DESTDIR=$dir/root meson install -C "$TRUNKLINE_BUILD" --no-rebuild 2>&1) || status=$?
ok $status "install" "$output"
prefix=$dir/root$(meson introspect --buildoptions "$TRUNKLINE_BUILD" |
    python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
lib=$(dirname "$(find "$prefix" -name libtrunkline.so)")
export PKG_CONFIG_PATH=$lib/pkgconfig
moved=(--define-variable=prefix="$prefix")

is "$("$prefix/bin/trunkline" version | head -n 1 | grep -o '[0-9][0-9.]*' | head -n 1)" \
    "$(pkg-config --modversion trunkline)" "program and pkg-config state one version"
is "$(pkg-config --print-requires trunkline)" "" "a user of the shared library needs nothing else"
like "$(pkg-config --print-requires-private trunkline)" 'libpq' "a static link needs libpq"
like "$(objdump -p "$lib/libtrunkline.so")" 'SONAME +libtrunkline\.so\.0' "soname 0"

# Every TL_API function of the installed headers, declared over one or more lines.
declared=$(cat "$prefix"/include/trunkline/*.h | tr '\n' ' ' | grep -oE '\bTL_API [^;(]*\(' |
    grep -oE 'tl_[a-z0-9_]+ *\($' | tr -d ' (' | sort)
exported=$(nm -D --defined-only "$lib/libtrunkline.so" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort)
is "$exported" "$declared" "exported are the functions of the header, no more and no less"

flags=(-Wall -Wextra -Wpedantic -Werror)
for header in trunkline/trunkline.h trunkline/live.h trunkline/store.h trunkline/trunkline_version.h; do
    printf '#include <%s>\n#include <%s>\nextern int used;\n' "$header" "$header" >"$dir/alone.c"
    read -ra include < <(pkg-config "${moved[@]}" --cflags trunkline)
    for compiler in "gcc -std=c99" "g++ -x c++ -std=c++11"; do
        status=0
        # shellcheck disable=SC2086
        output=$($compiler "${flags[@]}" "${include[@]}" -fsyntax-only "$dir/alone.c" 2>&1) || status=$?
        ok $status "<$header> alone, twice: $compiler" "$output"
    done
done

cat >"$dir/user.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <trunkline/trunkline.h>
#include <trunkline/trunkline_version.h>
int main(void)
{
    puts(tl_version());
    return strcmp(tl_version(), TL_VERSION) != 0;
}
C
# In a sanitized build the library wants its sanitizer.
sanitize=$(meson introspect --buildoptions "$TRUNKLINE_BUILD" |
    python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "b_sanitize"))')
[ "$sanitize" = none ] || flags+=("-fsanitize=$sanitize")
read -ra shared < <(pkg-config "${moved[@]}" --cflags --libs trunkline)
# Not --static: Debian's libpq.pc names private archives that it does not ship.
read -ra static < <(pkg-config "${moved[@]}" --cflags --libs trunkline libpq libcrypto)
status=0
output=$(gcc -std=c99 "${flags[@]}" -o "$dir/user" "$dir/user.c" "${shared[@]}" "-Wl,-rpath,$lib" 2>&1 && "$dir/user") || status=$?
ok $status "a C99 program links to the shared library and runs" "$output"
status=0
output=$(gcc -std=c99 "${flags[@]}" -o "$dir/user" "$dir/user.c" "${static[@]/#-ltrunkline/-l:libtrunkline.a}" 2>&1 && "$dir/user") || status=$?
ok $status "a C99 program links to the static library and runs" "$output"
finish
