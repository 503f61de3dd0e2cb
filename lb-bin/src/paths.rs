//! Where files are: the admin socket when nobody says, and what lies beside another file.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The admin socket's path: as given, else `/run/lb/admin.sock` for root, else in the user's runtime folder.
pub(crate) fn admin_socket(given: Option<&Path>) -> Result<PathBuf, String> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => default_admin_socket(is_root(), env::var_os("XDG_RUNTIME_DIR")),
    }
}

fn default_admin_socket(root: bool, runtime_dir: Option<OsString>) -> Result<PathBuf, String> {
    if root {
        return Ok(PathBuf::from("/run/lb/admin.sock"));
    }
    match runtime_dir.filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(Path::new(&dir).join("lb/admin.sock")),
        None => Err("no place for the admin socket: XDG_RUNTIME_DIR is not set, so give --admin PATH".to_owned()),
    }
}

/// The path with `suffix` after its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `/proc/self` belongs to the user that the process acts as. Without `/proc` the answer is no.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_depends_on_the_user() {
        assert_eq!(default_admin_socket(true, None).unwrap(), Path::new("/run/lb/admin.sock"));
        let user = default_admin_socket(false, Some("/run/user/1000".into())).unwrap();
        assert_eq!(user, Path::new("/run/user/1000/lb/admin.sock"));
        for unset in [None, Some("".into())] {
            assert!(default_admin_socket(false, unset).unwrap_err().contains("--admin"));
        }
    }

    #[test]
    fn a_given_path_wins() {
        assert_eq!(admin_socket(Some(Path::new("x.sock"))).unwrap(), Path::new("x.sock"));
    }
}
