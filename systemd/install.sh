#!/bin/sh
# Installs the built project on this host, or removes it: see usage below. POSIX sh; needs no npm.
set -eu
umask 022

usage() {
  cat <<'END'
install.sh: installs boundary-daemon from a built tree (npm ci && npm run build)

Usage: systemd/install.sh [--root DIR] [--dry-run]
       systemd/install.sh --uninstall [--root DIR] [--dry-run]

  --root DIR    install below DIR (an image, a package's staging directory); no running system is touched
  --uninstall   stop and remove the program. Configuration, keys and the log stay
  --dry-run     say what would be done, and do nothing
  --help

Run it again to upgrade: a running daemon is stopped cleanly, which leaves its mode's rules in place, and started again.
Nothing is enabled. Exit: 0 done, 1 failed, 2 usage, 3 something it needs is missing (it says what).
END
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$2" >&2; exit "$1"; }
# run COMMAND…: does it, or says it
run() {
  if [ "$dry" = yes ]; then say "would run: $*"; else "$@"; fi
}

root='' action=install dry=no
while [ $# -gt 0 ]; do
  case $1 in
    --root) [ $# -ge 2 ] || { usage >&2; exit 2; }; root=$2; shift ;;
    --root=*) root=${1#--root=} ;;
    --uninstall) action=uninstall ;;
    --dry-run) dry=yes ;;
    --help|-h) usage; exit 0 ;;
    *) printf 'install.sh: there is no option %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
case $root in
  ''|/*) ;;
  *) fail 2 "--root has to begin with /: $root" ;;
esac
root=${root%/}
[ "$dry" = yes ] || [ "$(id -u)" -eq 0 ] || fail 3 "not root"

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
lib=/usr/lib/boundary-daemon
units='boundary-daemon.service boundary-early.service boundary-egress.service boundary-lockdown.service boundary-ship.service boundary-worker.service'
# A host with systemd as its first process, and not somewhere below --root
live=no
[ -n "$root" ] || [ ! -d /run/systemd/system ] || live=yes

# each line: where it is here, where it goes, its mode
files() {
  for unit in $units; do say "systemd/$unit /usr/lib/systemd/system/$unit 0644"; done
  cat <<'END'
systemd/boundary-daemon.sysusers.conf /usr/lib/sysusers.d/boundary-daemon.conf 0644
systemd/boundary-daemon.tmpfiles.conf /usr/lib/tmpfiles.d/boundary-daemon.conf 0644
systemd/60-boundary-usb.rules /usr/lib/udev/rules.d/60-boundary-usb.rules 0644
docs/man/boundary-daemon.8 /usr/share/man/man8/boundary-daemon.8 0644
docs/man/boundaryctl.1 /usr/share/man/man1/boundaryctl.1 0644
END
}
# what is made rather than copied
made='/usr/bin/boundaryctl /usr/sbin/boundary-daemon /usr/share/bash-completion/completions/boundaryctl'

look() {
  [ -f "$here/dist/packages" ] || fail 3 "not built: run npm ci && npm run build in $here first"
  [ -x "$here/node_modules/.bin/node" ] || fail 3 "no node_modules: run npm ci in $here first"
  [ "$here" != "$root$lib" ] || fail 3 "$here is the installed tree: run this from the project"
  [ -n "$root" ] && return 0
  for program in systemd-sysusers systemd-tmpfiles; do
    command -v "$program" >/dev/null || fail 3 "$program is missing: this installs for systemd"
  done
  missing=''
  PATH=$PATH:/usr/sbin:/sbin
  command -v nft >/dev/null || missing="$missing nftables"
  command -v ip >/dev/null || missing="$missing iproute2"
  { command -v setpriv && command -v prlimit; } >/dev/null || missing="$missing util-linux"
  command -v bwrap >/dev/null || missing="$missing bubblewrap"
  ls /usr/lib/*/libnftables.so.1 >/dev/null 2>&1 || missing="$missing libnftables1"
  [ -z "$missing" ] || fail 3 "missing packages: apt-get install --no-install-recommends$missing"
}

# The whole tree beside the old one, so that there is never half of one
stage() {
  new=$root$lib.new
  rm -rf "$new"
  mkdir -p "$new/node_modules/.bin" "$new/systemd"
  cp -R "$here/dist" "$here/package.json" "$new/"
  for file in lockdown.nft lockdown-arp.nft usb-permissions config.yaml; do cp "$here/systemd/$file" "$new/systemd/"; done
  chmod 0755 "$new/systemd/usb-permissions"
  # All other packages are within dist's own files
  while read -r path; do
    mkdir -p "$new/$(dirname "$path")"
    cp -R "$here/$path" "$new/$path"
    # Node's headers, a third of all that is installed: nothing is compiled here
    case $path in node_modules/node-linux-*) rm -rf "$new/$path/include" ;; esac
  done <"$here/dist/packages"
  node=$(readlink "$here/node_modules/.bin/node")
  [ -x "$new/node_modules/.bin/$node" ] || fail 1 "no node among the packages: $node"
  ln -s "$node" "$new/node_modules/.bin/node"
  chown -R root:root "$new"
  chmod -R u=rwX,go=rX "$new"
}

swap() {
  if [ -d "$root$lib" ] && diff -rq "$root$lib" "$root$lib.new" >/dev/null 2>&1; then
    rm -rf "$root$lib.new"
    say "unchanged  $lib"
    return 0
  fi
  stop_running
  rm -rf "$root$lib.old"
  [ ! -e "$root$lib" ] || mv "$root$lib" "$root$lib.old"
  mv "$root$lib.new" "$root$lib"
  rm -rf "$root$lib.old"
  say "installed  $lib"
}

running=''
# A program file that changes under a running daemon is a tripwire: stopped first, started again at the end.
stop_running() {
  [ "$live" = yes ] || return 0
  for unit in boundary-ship.service boundary-egress.service boundary-worker.service boundary-daemon.service; do
    if systemctl is-active --quiet "$unit"; then
      running="$unit $running"
      systemctl stop "$unit"
      say "stopped    $unit (its mode's rules stay)"
    fi
  done
}

# put TEXT-ON-STDIN TARGET MODE, unless it is there already
put() {
  target=$root$1
  mkdir -p "$(dirname "$target")"
  cat >"$target.new"
  chmod "$2" "$target.new"
  if cmp -s "$target.new" "$target"; then
    rm -f "$target.new"
    chmod "$2" "$target"
  else
    mv -f "$target.new" "$target"
    say "installed  $1"
  fi
}

wrapper() {
  say '#!/bin/sh'
  say "exec $lib/node_modules/.bin/node --disallow-code-generation-from-strings --no-memory-protection-keys $2$lib/dist/$1/main.js \"\$@\""
}

accounts() {
  if [ -n "$root" ] && [ ! -f "$root/etc/passwd" ]; then
    say "left out   the user boundary and what belongs to it: no /etc/passwd below $root"
    return 0
  fi
  systemd-sysusers ${root:+--root="$root"} "$root/usr/lib/sysusers.d/boundary-daemon.conf"
  # it refuses to follow what the daemon's user put there to root's own: no reason to leave a daemon stopped
  systemd-tmpfiles ${root:+--root="$root"} --create "$root/usr/lib/tmpfiles.d/boundary-daemon.conf" ||
    say "refused    by systemd-tmpfiles: see above, and whose /etc/boundary-daemon/config.yaml is"
  config=$root/etc/boundary-daemon/config.yaml
  # a link too, wherever it leads
  if [ -e "$config" ] || [ -L "$config" ]; then
    say "kept       /etc/boundary-daemon/config.yaml"
    return 0
  fi
  owner=$(sed -n 's/^boundary:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p' "$root/etc/passwd")
  [ -n "$owner" ] || fail 1 "no user boundary in $root/etc/passwd"
  # The directory is the daemon's, which could have put a link to anything there: written in root's own beside it, and
  # renamed, which follows no link.
  staged=$(mktemp "$root/etc/.boundary-config.XXXXXX")
  cat "$here/systemd/config.yaml" >"$staged"
  chown "$owner" "$staged"
  mv -fT "$staged" "$config" || { rm -f "$staged"; fail 1 "cannot write $config"; }
  say "installed  /etc/boundary-daemon/config.yaml (0600 boundary)"
}

install_all() {
  look
  if [ "$dry" = yes ]; then
    say "would install $here at $root$lib, with these packages:"
    sed 's/^/  /' "$here/dist/packages"
    files | while read -r _ target mode; do say "would install $root$target ($mode)"; done
    for target in $made; do say "would make $root$target"; done
    say "would make the user boundary, its directories, and /etc/boundary-daemon/config.yaml if there is none"
    [ "$live" = no ] || say "would stop a running daemon before, and start it again after"
    return 0
  fi
  mkdir -p "$root/usr/lib"
  stage
  swap
  files | while read -r source target mode; do put "$target" "$mode" <"$here/$source"; done
  wrapper cli '' | put /usr/bin/boundaryctl 0755
  wrapper daemon '--max-semi-space-size=1 --optimize-for-size ' | put /usr/sbin/boundary-daemon 0755
  "$root$lib/node_modules/.bin/node" "$root$lib/dist/cli/main.js" completion |
    put /usr/share/bash-completion/completions/boundaryctl 0644
  accounts
  [ "$live" = yes ] || return 0
  systemctl daemon-reload
  # what is plugged in already becomes the group's too
  if command -v udevadm >/dev/null; then
    udevadm control --reload
    udevadm trigger --action=add --subsystem-match=usb
  fi
  for unit in $running; do
    systemctl start "$unit"
    say "started    $unit"
  done
  [ -n "$running" ] || say "next       boundary-daemon --check-config; systemctl enable --now boundary-early boundary-daemon"
}

# echo TEXT into a file of sysfs. A device that went meanwhile has none.
tell() {
  if [ "$dry" = yes ]; then say "would write $1 to $2"; else printf '%s' "$1" 2>/dev/null >"$2" || true; fi
}

# Where udev's mark is there, the daemon, or udev for it, has closed the USB controllers. Nobody would open them any more.
# Without it they are as others want them.
open_usb() {
  mark=$root/var/lib/boundary-daemon/usb-enforced
  [ -e "$mark" ] || [ -L "$mark" ] || return 0
  run rm -rf "$mark"
  [ "$live" = yes ] || return 0
  devices=/sys/bus/usb/devices
  for controller in "$devices"/usb*; do
    [ -e "$controller/authorized_default" ] || continue
    tell 1 "$controller/authorized_default"
    [ ! -e "$controller/interface_authorized_default" ] || tell 1 "$controller/interface_authorized_default"
  done
  # Interfaces of what is authorised already; a device that the next loop authorises has all of its own.
  for file in "$devices"/*:*/authorized; do
    [ "$(cat "$file" 2>/dev/null)" = 0 ] || continue
    tell 1 "$file"
    interface=${file%/authorized}
    tell "${interface##*/}" /sys/bus/usb/drivers_probe
  done
  for file in "$devices"/*/authorized; do
    [ "$(cat "$file" 2>/dev/null)" != 0 ] || tell 1 "$file"
  done
  [ "$dry" = yes ] || say "opened     the USB controllers, and what was refused at them"
}

uninstall_all() {
  if [ "$live" = yes ]; then
    # shellcheck disable=SC2086 # a list of words
    for unit in $units; do
      [ ! -e "/usr/lib/systemd/system/$unit" ] || run systemctl disable --now --quiet "$unit"
    done
  fi
  files | while read -r _ target _; do
    [ ! -e "$root$target" ] || run rm -f "$root$target"
  done
  for target in $made; do
    [ ! -e "$root$target" ] || run rm -f "$root$target"
  done
  [ ! -e "$root$lib" ] || run rm -rf "$root$lib"
  if [ "$live" = yes ]; then
    run systemctl daemon-reload
    ! command -v udevadm >/dev/null || run udevadm control --reload
  fi
  open_usb
  say "kept       /etc/boundary-daemon, /var/lib/boundary-daemon, /var/log/boundary-daemon, the user boundary"
  [ "$live" = no ] || say "kept       the last mode's rules, until the next boot; now: for f in inet arp netdev; do nft delete table $f boundary; done; nft delete table inet boundary_isolation"
}

case $action in
  install) install_all ;;
  uninstall) uninstall_all ;;
esac
