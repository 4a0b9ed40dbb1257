#!/usr/bin/env bash
# Unpack Debian's Sendmail into the folder given: beside Postfix it cannot be installed, but it runs from anywhere.
#   get_sendmail.sh FOLDER
set -euo pipefail

folder=$(realpath -m "$1")
packages=(sendmail-bin sendmail-cf sasl2-bin)
[ -x "$folder/usr/libexec/sendmail/sendmail" ] && exit 0

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
# Group mail's right to its own mail is of no use here.
chmod g-s "$work/tree/usr/libexec/sendmail/sendmail"
chmod 755 "$work/tree"
mv -T "$work/tree" "$folder" 2>/dev/null || [ -x "$folder/usr/libexec/sendmail/sendmail" ]
