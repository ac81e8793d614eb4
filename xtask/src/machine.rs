//! What this machine offers: directories, rights, programs. Looked up once at the start and passed in.
//! It changes nothing; installing is `debian`'s, building is `tools`'.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

/// The surroundings of one `cargo xtask` call.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Root of the repository.
    pub(crate) repository: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Built tools, shared by all checkouts of this user.
    pub(crate) cache: PathBuf,
    /// Running as root on Linux: pods are possible.
    pub(crate) root: bool,
    /// `CI` is set: nothing is asked, and a layer that cannot run is a failure.
    pub(crate) ci: bool,
    /// A person is looking: questions and spinners make sense.
    pub(crate) terminal: bool,
    /// `KUBEBUILDER_ASSETS`, where controller developers keep etcd and kube-apiserver.
    pub(crate) kubebuilder_assets: Option<PathBuf>,
    search_path: OsString,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look() -> Self {
        let manifest = variable("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let repository = Path::new(&manifest).parent().expect("the xtask package lies one below the root").to_owned();
        let home = variable("HOME").map_or_else(env::temp_dir, PathBuf::from);
        let cache = variable("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("gtm-sync");
        let target = variable("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), |it| repository.join(it));
        Self {
            target,
            cache,
            root: cfg!(target_os = "linux") && rustix::process::geteuid().is_root(),
            ci: variable("CI").is_some_and(|it| !it.is_empty() && it != "false"),
            terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            kubebuilder_assets: variable("KUBEBUILDER_ASSETS").map(PathBuf::from),
            search_path: search_path(),
            repository,
        }
    }

    /// The first program of that name in the search path.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.search_path).map(|directory| directory.join(name)).find(|it| is_executable(it))
    }

    /// The search path with `directory` in front.
    pub(crate) fn search_path_with(&self, directory: &Path) -> OsString {
        let mut joined = directory.as_os_str().to_owned();
        joined.push(":");
        joined.push(&self.search_path);
        joined
    }
}

/// PATH, and the places where root's programs lie, which a plain user's PATH lacks on Debian.
fn search_path() -> OsString {
    let mut path = variable("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(OsStr::new(name))
}

/// Whether a file exists and may be executed by somebody.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}
