#!/usr/bin/env bash
# Unpack Debian's packages into the folder given: an MTA cannot be installed beside Postfix, but it runs from anywhere.
#   unpack.sh FOLDER PACKAGE...
set -euo pipefail

folder=$(realpath -m "$1")
packages=("${@:2}")
[ -d "$folder" ] && exit 0

mkdir -p "$(dirname "$folder")"
# Made beside its place and moved there whole: whoever sees the folder sees all of it.
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/tree"
cd "$work/packages"

fetch=(apt-get download --quiet=2 "${packages[@]}")
# The lists may be missing or old: fetch them and try once more.
if ! "${fetch[@]}" >log 2>&1 && ! { apt-get update --quiet=2 && "${fetch[@]}"; } >log 2>&1; then
    cat log >&2
    echo "Debian's packages could not be fetched: ${packages[*]}." >&2
    exit 1
fi
for package in *.deb; do
    dpkg -x "$package" "$work/tree"
done
# Sendmail has the right of group mail to its own mail, which is of no use here.
find "$work/tree" -type f -perm /g+s -exec chmod g-s {} +
chmod 755 "$work/tree"
mv -T "$work/tree" "$folder" 2>/dev/null || [ -d "$folder" ]
