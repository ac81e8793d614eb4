//! Packages of the distribution: what is missing is listed, asked for, and installed with apt as root on Debian;
//! elsewhere one message names exactly what to install.

use std::{
    io::{BufRead as _, Write as _},
    path::Path,
};

use anyhow::bail;

use crate::{console, image, machine::Machine, postgres, process, python};

/// A package and how to see that what it brings is there.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    /// Name in Debian and Ubuntu.
    name: &'static str,
    /// What it is needed for, for the message.
    reason: &'static str,
    present: fn(&Machine) -> bool,
}

/// The database.
pub(crate) const POSTGRESQL: Package =
    Package { name: "postgresql", reason: "the database", present: |it| postgres::programs(it).is_some() };

/// The vendors' own clients, against which the simulators are tested.
pub(crate) const PYTHON: [Package; 2] = [
    Package { name: "python3", reason: "the vendor's client", present: |it| it.program("python3").is_some() },
    Package { name: "python3-venv", reason: "an environment for it", present: python::has_venv },
];

/// What a node with pods needs.
pub(crate) const NODE: [Package; 8] = [
    Package { name: "containerd", reason: "runs containers", present: |it| it.program("containerd").is_some() },
    Package { name: "runc", reason: "runs containers", present: |it| it.program("runc").is_some() },
    Package {
        name: "containernetworking-plugins",
        reason: "gives pods addresses",
        present: |_| cni_plugins().is_some(),
    },
    Package { name: "nftables", reason: "service addresses", present: |it| it.program("nft").is_some() },
    Package { name: "iproute2", reason: "the node's network", present: |it| it.program("ip").is_some() },
    Package { name: "util-linux", reason: "the node's namespaces", present: |it| it.program("nsenter").is_some() },
    Package { name: "ca-certificates", reason: "the product's image", present: |_| image::certificates().is_some() },
    Package { name: "gcc", reason: "the pause program", present: |it| it.program("cc").is_some() },
];

/// The directory with the CNI plugins: Debian's, or where upstream's archive is unpacked by habit.
pub(crate) fn cni_plugins() -> Option<&'static Path> {
    ["/usr/lib/cni", "/opt/cni/bin"].into_iter().map(Path::new).find(|it| it.join("host-local").exists())
}

/// Makes sure that all packages are there.
///
/// # Errors
/// When some are missing and cannot or may not be installed; the message names them.
pub(crate) async fn ensure(machine: &Machine, yes: bool, packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<_> = packages.iter().filter(|it| !(it.present)(machine)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|it| it.name).collect();
    let command = format!("apt-get install --no-install-recommends {}", names.join(" "));
    let Some(apt) = machine.program("apt-get").filter(|_| machine.root) else {
        bail!("these packages are missing (names as in Debian): {}; as root on Debian: {command}", names.join(" "));
    };
    console::line("these Debian packages are missing:");
    for package in &missing {
        console::line(format_args!("  {:28} {}", package.name, package.reason));
    }
    if !(yes || machine.ci || !machine.terminal || confirmed()?) {
        bail!("not installed; to do it by hand: {command}");
    }
    let step = console::step(format!("installing {}", names.join(" ")));
    let apt_get = |arguments: &[&str]| {
        let mut command = process::command(&apt);
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command
    };
    // Lists may be absent (containers) or too old: refreshed only when the first try fails.
    let install: Vec<_> = ["install", "--yes", "--no-install-recommends"].into_iter().chain(names).collect();
    if process::capture(apt_get(&install)).await.is_err() {
        process::capture(apt_get(&["update"])).await?;
        process::capture(apt_get(&install)).await?;
    }
    step.done("");
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    let mut output = std::io::stdout();
    write!(output, "install them with apt-get? [Y/n] ")?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
