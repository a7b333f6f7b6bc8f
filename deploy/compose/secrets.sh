#!/bin/sh
# Makes the secrets that are missing, in `secrets` beside this file. Nothing that is there is changed.
# Keep a copy of master_key apart from backups of the database: without it no stored secret can be read.
set -eu
cd "$(dirname "$0")"
# The folder keeps others out. Its files can be read by whoever gets one mounted: each image has a user
# of its own.
umask 077
mkdir -p secrets
cd secrets

random() {
    [ -s "$1" ] || openssl rand -hex 32 >"$1"
}
for name in bootstrap_key database_password master_key storage_key; do
    random "$name"
done
if ! [ -s edge_key ] || ! [ -s edge_certificate ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=freehold edge" -addext "subjectAltName=DNS:proxy" \
        -keyout edge_key -out edge_certificate 2>/dev/null
fi
chmod 0444 ./*
echo "what gateways know the edge by (edge.fingerprint):"
openssl x509 -in edge_certificate -noout -fingerprint -sha256 | cut -d= -f2 | tr -d : | tr 'A-F' 'a-f'
