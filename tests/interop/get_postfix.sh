#!/usr/bin/env bash
# Unpack the Postfix of another Debian release into the folder given. It runs beside the machine's own, with its own libraries.
#   get_postfix.sh RELEASE FOLDER    RELEASE is trixie, sid, ...
set -euo pipefail

release=$1
folder=$(realpath -m "$2")
[ -x "$folder/usr/sbin/postconf" ] && exit 0

mkdir -p "$(dirname "$folder")"
# Made beside its place and moved there whole: whoever sees the folder sees all of it.
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{tree,lists/partial,cache/archives/partial}

# The mirror of this machine, which has all releases of Debian.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$work/sources.list"
: >"$work/status"
apt=(apt-get --quiet=2 --option "Dir::Etc::SourceList=$work/sources.list" --option Dir::Etc::SourceParts=/dev/null
    --option "Dir::State::Lists=$work/lists" --option "Dir::State::Status=$work/status" --option "Dir::Cache=$work/cache"
    --option APT::Update::Error-Mode=any --option APT::Sandbox::User=root)

# With no package installed, apt fetches all libraries too.
if ! { "${apt[@]}" update && "${apt[@]}" install --yes --download-only --no-install-recommends postfix; } >"$work/log" 2>&1; then
    cat "$work/log" >&2
    echo "The Postfix of Debian $release could not be fetched." >&2
    exit 1
fi
for package in "$work"/cache/archives/*.deb; do
    dpkg -x "$package" "$work/tree"
done

# Postfix starts its programs with an empty environment, so each of them must know where its own libraries are.
tree=$work/tree
loader=$(find "$tree" -name 'ld-linux-*.so.*' | head -1)
libraries=$(find "$tree/usr/lib" -maxdepth 2 -name 'lib*.so*' -printf '%h\n' | sort -u | sed "s|^$tree|$folder|" | paste -sd:)
find "$tree/usr/sbin" "$tree/usr/lib/postfix" -type f | while read -r file; do
    head -c 4 "$file" | grep -q ELF || continue
    patchelf --force-rpath --set-rpath "$libraries:$folder/usr/lib/postfix" "$file"
    case $file in
    *.so*) ;;
    *) patchelf --set-interpreter "$folder${loader#"$tree"}" "$file" ;;
    esac
done
chmod 755 "$tree"
mv -T "$tree" "$folder" 2>/dev/null || [ -x "$folder/usr/sbin/postconf" ]
