//! The Debian package: it is built of the program that the tests use, installed on a copy of this machine's files, started as its
//! unit does, used, and purged. Nothing of it stays here: all happens in namespaces and on an overlay.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::fault::{has, is_root, skipped};
use tests::lb_path;
use tests::program::succeeds;

/// What happens on the copy, whose root is `/`. Each step says its name before it begins.
const INSTALL_AND_USE: &str = r##"
set -eu
step() { echo "== $1"; }
# What dpkg keeps for itself, and caches, may differ afterwards.
files() { find /etc /usr /var -xdev \( -path /var/lib/dpkg -o -path /var/cache \
    -o -path /var/log/dpkg.log -o -path /var/log/alternatives.log \) -prune -o -print | sort; }
files > /tmp/before

step install
dpkg --path-include='/usr/share/*' --install /tmp/lb.deb
grep -q '^Package: lb$' /var/lib/dpkg/status

step "manual pages and completions"
man --where lb | grep -q /usr/share/man/man1/lb.1
man lb-server-add | col -b | grep -q -- --weight
bash -c 'source /usr/share/bash-completion/completions/lb; complete -p lb >/dev/null
    COMP_WORDS=(lb ser) COMP_CWORD=1; _lb lb ser lb; [ "${COMPREPLY[*]}" = server ]'
test -s /usr/share/zsh/vendor-completions/_lb
test -s /usr/share/fish/vendor_completions.d/lb.fish
test -s /usr/share/lb/dashboards/alerts.yml
test -s /usr/share/doc/lb/CONFIGURATION.md

step "the unit and the rotation"
unit=$(dpkg -L lb | grep '/lb\.service$')
SYSTEMD_LOG_LEVEL=warning systemd-analyze verify "$unit"
if command -v logrotate; then logrotate --debug /etc/logrotate.d/lb; fi

step "start as the unit does"
# A user as systemd's DynamicUser= makes one, the folders that it makes for the unit, and its capabilities and limits.
user=61500
of_unit() { sed -n "s/^$1=//p" "$unit"; }
for folder in "/run/$(of_unit RuntimeDirectory)" "/var/lib/$(of_unit StateDirectory)" "/var/log/$(of_unit LogsDirectory)"; do
    install -d -o $user -g $user -m 0700 "$folder"
done
as_unit() { exec setpriv --reuid $user --regid $user --clear-groups --no-new-privs --bounding-set -all,+net_bind_service \
    --inh-caps -all,+net_bind_service --ambient-caps -all,+net_bind_service "$@"; }
ulimit -l 8192
umask "$(of_unit UMask)"
(as_unit $(of_unit ExecStartPre))
as_unit $(of_unit ExecStart) & lb=$!
until lb status >/dev/null 2>&1; do kill -0 $lb; sleep 0.1; done

step "serve, on a port below 1024"
ip link set lo up
mkdir /tmp/site && echo "hello from the package" > /tmp/site/index.html
PYTHONDONTWRITEBYTECODE=1 python3 -m http.server --directory /tmp/site --bind 127.0.0.1 9001 2>/dev/null & site=$!
lb frontend add web 127.0.0.1:80 --protocol http
lb server add web app1 127.0.0.1 9001
until curl -sS http://127.0.0.1/ 2>/dev/null | grep "hello from the package"; do kill -0 $site; sleep 0.1; done

step "stop and start again: changes were kept"
kill $lb; wait $lb
as_unit $(of_unit ExecStart) & lb=$!
until lb server list web 2>/dev/null | grep app1; do kill -0 $lb; sleep 0.1; done
kill $lb; wait $lb; kill $site

step remove
dpkg --remove lb
test ! -e /usr/bin/lb
test -e /etc/lb/lb.ron

step purge
dpkg --purge lb
files > /tmp/after
diff /tmp/before /tmp/after
step done
"##;

#[test]
fn the_package_is_installed_used_and_purged() {
    let needs = "root, dpkg, unshare, setpriv, man and cargo-deb";
    let can = is_root() && ["dpkg", "unshare", "setpriv", "man"].into_iter().all(has);
    if skipped("the_package_is_installed_used_and_purged", can && has_cargo_deb(), needs) {
        return;
    }
    let package = build();
    let folder = TempDir::with_prefix("lb-test-package-").unwrap();
    let said = succeeds(&mut on_a_copy(folder.path(), &package));
    assert!(said.ends_with("== done\n"), "{said}");
}

#[test]
fn the_default_configuration_is_good() {
    let path = workspace().join("lb-bin/debian/lb.ron");
    let said = succeeds(Command::new(lb_path()).args(["check", "--config"]).arg(&path));
    assert_eq!(said, format!("{}: good, 0 frontends with 0 servers\n", path.display()));
}

/// Runs `folder/script` in a copy of this machine's files, and in namespaces of its own.
fn on_a_copy(folder: &Path, package: &Path) -> Command {
    let script = r#"
        set -eu
        mount -t tmpfs -o size=2g lb-test "$1" -o mode=0755 && cd "$1" && mkdir upper work root
        mount -t overlay lb-test -o lowerdir=/,upperdir=upper,workdir=work root
        mount -t proc lb-test root/proc && mount --rbind /dev root/dev
        for fresh in root/tmp root/run; do mount -t tmpfs lb-test $fresh; done
        printf %s "$3" > root/tmp/script && cp "$2" root/tmp/lb.deb
        exec chroot root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            bash /tmp/script 2>&1
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]);
    command.arg(folder).arg(package).arg(INSTALL_AND_USE);
    command
}

/// Builds the package of the program that is there already.
fn build() -> PathBuf {
    assert!(lb_path().exists());
    let said = succeeds(Command::new(workspace().join("lb-bin/debian/build")).arg("--debug"));
    let path = said.lines().last().expect("it says where the package is");
    workspace().join(path)
}

fn has_cargo_deb() -> bool {
    Command::new("cargo").args(["deb", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests are in a folder of the workspace").to_owned()
}
