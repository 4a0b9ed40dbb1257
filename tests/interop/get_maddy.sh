#!/usr/bin/env bash
# Build maddy from Go's module proxy into the folder given.
#   get_maddy.sh FOLDER    takes 2 minutes of CPU time and 1.5 GB in Go's caches
set -euo pipefail

version=v0.8.2
folder=$(realpath -m "$1")
[ -x "$folder/maddy-$version" ] && exit 0

mkdir -p "$folder/build"
cd "$folder/build"
# maddy's own go.mod replaces these modules; as a dependency of another module that counts no more.
cat >go.mod <<'MODULE'
module interop.test/maddy

go 1.24.0

replace github.com/emersion/go-imap => github.com/foxcpp/go-imap v1.0.0-beta.1.0.20220623182312-df940c324887

replace github.com/emersion/go-smtp => github.com/foxcpp/go-smtp v1.21.4-0.20250124171104-c8519ae4fb23

replace github.com/libdns/gandi => github.com/foxcpp/libdns-gandi v1.0.4-0.20240127130558-4782f9d5ce3e
MODULE
go get -tool "github.com/foxcpp/maddy/cmd/maddy@$version" >log 2>&1 || { cat log >&2; exit 1; }
go build -o "$folder/maddy-$version.new" github.com/foxcpp/maddy/cmd/maddy
mv "$folder/maddy-$version.new" "$folder/maddy-$version"
