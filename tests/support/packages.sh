#!/usr/bin/env bash
# Install the real servers and clients that the live tests use, where apt and root are to be had.
# Nothing is started: the tests run their own instances in directories of their own.
set -euo pipefail
packages="dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-submissiond postfix swaks msmtp mpop isync offlineimap3
    curl openssl prometheus postgresql libnet-ssleay-perl libio-socket-ssl-perl systemd p7zip-full libarchive13
    libdb5.3 libgnutls-dane0 libgnutls30 libidn12 libnsl2 libpcre2-8-0
    libxapian30 libpcre3 libical3 libsasl2-modules libsasl2-modules-db
    opendkim opendmarc dbconfig-no-thanks clamav-daemon clamav-milter rspamd spamassassin spamd
    rsyslog rsyslog-gnutls testssl.sh sslscan mutt"
# Exim and Cyrus drop to accounts of their own, which can't look into everybody's home.
cache=/var/lib/mailgate-tests
missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
if [ -z "$missing" ] && [ -x "$cache/exim/usr/sbin/exim4" ] && [ -x "$cache/cyrus/usr/lib/cyrus/bin/master" ]; then
    exit 0
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
    echo "Not installed, and no apt with root to install them; their tests are skipped:$missing"
    exit 0
fi
echo "Installing for the live tests:$missing exim cyrus (the last two unpacked only)"
# RUNLEVEL=1 and the policy keep the packages' own services from being started.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod +x $policy
    made=yes
fi
restore() { [ -z "$made" ] || $as_root rm -f $policy; }
trap restore EXIT
install() {
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $as_root apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 $missing >/dev/null
}
install 2>/dev/null || { $as_root apt-get update -qq && install; }

# The packages of Exim and Cyrus conflict with those of Postfix and Dovecot: they are only
# unpacked, and get the accounts that they insist on.
unpack() { # unpack FOLDER PROGRAM ACCOUNT PACKAGE...
    folder="$cache/$1" program="$cache/$1/$2" account=$3
    shift 3
    [ ! -x "$program" ] || return 0
    id "$account" >/dev/null 2>&1 ||
        $as_root useradd --system --no-create-home --shell /usr/sbin/nologin "$account"
    fetched=$(mktemp -d)
    chmod 755 "$fetched"
    fetch() { (cd "$fetched" && apt-get download -qq "$@" >/dev/null 2>&1); }
    fetch "$@" || { $as_root apt-get update -qq && fetch "$@"; }
    libraries=$(for archive in "$fetched"/*.deb; do dpkg-deb -f "$archive" Depends; done |
        tr ',|' '\n\n' | sed 's/(.*//; s/:any//; s/ //g' | grep -E '^(lib[a-z0-9.+-]*[0-9][a-z0-9]*|zlib1g)$' |
        grep -vE '^lib(cyrus|.*-perl)' | sort -u)
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $libraries >/dev/null
    $as_root mkdir -p "$folder"
    for archive in "$fetched"/*.deb; do $as_root dpkg -x "$archive" "$folder"; done
    rm -rf "$fetched"
}
unpack exim usr/sbin/exim4 Debian-exim exim4-daemon-light
unpack cyrus usr/lib/cyrus/bin/master cyrus cyrus-imapd cyrus-pop3d cyrus-common sasl2-bin
