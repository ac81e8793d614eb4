//! Container images without an engine: one layer of files, written as an archive that is an OCI layout and a
//! `docker load` archive at once, so that containerd, kind, k3d, docker and podman all take it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{console, machine::Machine, process, test_binaries};

/// User and group of the process in the image, the customary "nonroot".
const USER: u64 = 65532;
/// The name under which the product's image is loaded.
pub(crate) const PRODUCT: &str = "localhost/gtm-sync:dev";
/// Where distributions keep the certificates of the public authorities.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// One image to be written.
pub(crate) struct Image {
    reference: String,
    entrypoint: Vec<String>,
    user: u64,
    layer: tar::Builder<File>,
    directories: Vec<PathBuf>,
}

impl Image {
    /// Begins an image.
    pub(crate) fn new(reference: &str, entrypoint: &str, user: u64) -> anyhow::Result<Self> {
        let layer = tar::Builder::new(tempfile::tempfile().context("could not make a temporary file")?);
        Ok(Self {
            reference: reference.to_owned(),
            entrypoint: vec![entrypoint.to_owned()],
            user,
            layer,
            directories: vec![],
        })
    }

    /// Adds a file, with the directories above it.
    pub(crate) fn add(&mut self, path: &str, mode: u32, source: &Path) -> anyhow::Result<()> {
        let file = File::open(source).with_context(|| format!("could not open {}", source.display()))?;
        let length = file.metadata()?.len();
        self.append(path, tar::EntryType::Regular, mode, length, file)
    }

    /// Adds a file of this content.
    pub(crate) fn add_text(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        self.append(path, tar::EntryType::Regular, 0o644, text.len() as u64, text.as_bytes())
    }

    /// Adds a directory.
    pub(crate) fn add_directory(&mut self, path: &str, mode: u32) -> anyhow::Result<()> {
        self.append(path, tar::EntryType::Directory, mode, 0, io::empty())
    }

    fn append(
        &mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        length: u64,
        content: impl Read,
    ) -> anyhow::Result<()> {
        let path = Path::new(path.trim_start_matches('/'));
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|it| !self.directories.iter().any(|known| known == it)) {
            self.add_directory(&parent.to_string_lossy(), 0o755)?;
        }
        if kind.is_dir() {
            self.directories.push(path.to_owned());
        }
        // No times and no owners of this machine: the same files give the same digest.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(length);
        self.layer.append_data(&mut header, path, content).with_context(|| format!("could not add {}", path.display()))
    }

    /// Writes the archive.
    pub(crate) fn write(self, archive: &Path) -> anyhow::Result<()> {
        let mut layer = self.layer.into_inner().context("could not finish the layer")?;
        let layer_digest = digest(&mut layer)?;
        let layer_length = layer.metadata()?.len();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = serde_json::to_vec(&json!({
            "architecture": architecture, "os": "linux",
            "config": {
                "User": format!("{0}:{0}", self.user), "Entrypoint": self.entrypoint, "WorkingDir": "/",
                "Env": ["PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        }))?;
        let config_digest = digest(&mut config.as_slice())?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len() as u64),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer_length)],
        }))?;
        let manifest_digest = digest(&mut manifest.as_slice())?;
        let mut listed =
            descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len() as u64);
        listed["annotations"] = json!({
            "io.containerd.image.name": self.reference, "org.opencontainers.image.ref.name": self.reference});
        let index = json!({"schemaVersion": 2, "manifests": [listed]});
        let docker = json!([{
            "Config": blob(&config_digest), "Layers": [blob(&layer_digest)], "RepoTags": [self.reference]}]);

        let unfinished = archive.with_extension("part");
        let mut output = tar::Builder::new(io::BufWriter::new(File::create(&unfinished)?));
        put(&mut output, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        put(&mut output, "index.json", index.to_string().as_bytes())?;
        put(&mut output, "manifest.json", docker.to_string().as_bytes())?;
        put(&mut output, &blob(&config_digest), &config)?;
        put(&mut output, &blob(&manifest_digest), &manifest)?;
        io::Seek::rewind(&mut layer)?;
        put_sized(&mut output, &blob(&layer_digest), layer_length, layer)?;
        output.into_inner()?.flush()?;
        fs::rename(&unfinished, archive).with_context(|| format!("could not write {}", archive.display()))
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn descriptor(media_type: &str, digest: &str, length: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": length})
}

fn put(output: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> anyhow::Result<()> {
    put_sized(output, path, content.len() as u64, content)
}

fn put_sized(output: &mut tar::Builder<impl Write>, path: &str, length: u64, content: impl Read) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(length);
    output.append_data(&mut header, path, content).with_context(|| format!("could not add {path}"))
}

/// The digest of a stream, from its start when it can be rewound.
fn digest(stream: &mut impl Rewindable) -> anyhow::Result<String> {
    stream.to_start()?;
    let mut hash = Sha256::new();
    io::copy(stream, &mut hash).context("could not read what is to be hashed")?;
    Ok(hash.finalize().iter().map(|it| format!("{it:02x}")).collect())
}

trait Rewindable: Read {
    fn to_start(&mut self) -> io::Result<()>;
}

impl Rewindable for File {
    fn to_start(&mut self) -> io::Result<()> {
        io::Seek::rewind(self)
    }
}

impl Rewindable for &[u8] {
    fn to_start(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `cargo xtask image`: builds the product and writes `target/xtask/gtm-sync.tar`.
pub(crate) async fn command(machine: &Machine) -> anyhow::Result<()> {
    test_binaries::build_programs(machine).await?;
    let directory = machine.target.join("xtask");
    fs::create_dir_all(&directory)?;
    let archive = product(machine, &directory).await?;
    console::line(format_args!("{} holds {PRODUCT}", archive.display()));
    console::line(format_args!("  kind load image-archive {0}\n  docker load --input {0}", archive.display()));
    Ok(())
}

/// Writes the product's image into `directory`, from the program that cargo built.
///
/// # Idempotency
/// The same program gives the same archive.
pub(crate) async fn product(machine: &Machine, directory: &Path) -> anyhow::Result<PathBuf> {
    let archive = directory.join("gtm-sync.tar");
    let program = machine.target.join("debug/gtm-sync");
    let mut image = Image::new(PRODUCT, "/usr/bin/gtm-sync", USER)?;
    image.add("/usr/bin/gtm-sync", 0o755, &stripped(machine, &program, directory).await?)?;
    for library in libraries(machine, &program).await? {
        image.add(&library.to_string_lossy(), 0o755, &library)?;
    }
    let certificates = certificates().context("no CA certificates were found (Debian: package ca-certificates)")?;
    image.add("/etc/ssl/certs/ca-certificates.crt", 0o644, certificates)?;
    image.add_text("/etc/passwd", &format!("root:x:0:0::/:\nnonroot:x:{USER}:{USER}::/:\n"))?;
    image.add_text("/etc/group", &format!("root:x:0:\nnonroot:x:{USER}:\n"))?;
    image.add_text("/etc/nsswitch.conf", "hosts: files dns\n")?;
    image.add_directory("/tmp", 0o1777)?;
    image.write(&archive)?;
    Ok(archive)
}

/// The file with the certificates of the public authorities, which connectors need to dial the vendors.
pub(crate) fn certificates() -> Option<&'static Path> {
    CERTIFICATES.iter().map(Path::new).find(|it| it.exists())
}

/// The program without symbols, which are half of its size; as it is when there is no `strip`.
async fn stripped(machine: &Machine, program: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let Some(strip) = machine.program("strip") else { return Ok(program.to_owned()) };
    let output = directory.join("gtm-sync.stripped");
    let mut command = process::command(strip);
    command.arg("--strip-all").arg("-o").arg(&output).arg(program);
    process::capture(command).await?;
    Ok(output)
}

/// The shared libraries and the loader that a program needs on this machine.
async fn libraries(machine: &Machine, program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut command =
        process::command(machine.program("ldd").context("ldd was not found: images need a Linux with glibc")?);
    command.arg(program);
    let listed = process::capture(command).await?;
    if listed.contains("not found") {
        bail!("a library of {} is missing:\n{listed}", program.display());
    }
    // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, and the loader as a bare path.
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|it| it.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// Writes the image that holds a pod's namespaces open.
pub(crate) async fn pause(machine: &Machine, reference: &str, directory: &Path) -> anyhow::Result<PathBuf> {
    let (program, archive) = (directory.join("pause"), directory.join("pause.tar"));
    let mut command = process::command(machine.program("cc").context("cc (package gcc) was not found")?);
    command.args(["-static", "-O2", "-Wall", "-o"]).arg(&program);
    command.arg(machine.repository.join("xtask/tools/pause.c"));
    process::capture(command).await?;
    let mut image = Image::new(reference, "/pause", USER)?;
    image.add("/pause", 0o755, &program)?;
    image.write(&archive)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn written(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut image = Image::new("localhost/test:1", "/bin/program", 7).unwrap();
        image.add_text("/bin/program", "program").unwrap();
        image.add_directory("/tmp", 0o1777).unwrap();
        let archive = directory.join("image.tar");
        image.write(&archive).unwrap();
        entries(File::open(archive).unwrap())
    }

    fn entries(archive: impl Read) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        read.collect()
    }

    fn json_of(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_archive_is_an_oci_layout_and_a_docker_archive_of_the_same_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let files = written(directory.path());
        let index = json_of(&files["index.json"]);
        let named = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let manifest = json_of(&files[&named]);
        let docker = json_of(&files["manifest.json"]);
        let of = |it: &Value| it["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        assert_eq!(docker[0]["Config"], of(&manifest["config"]));
        assert_eq!(docker[0]["Layers"][0], of(&manifest["layers"][0]));
        assert_eq!(docker[0]["RepoTags"][0], "localhost/test:1");
        let layer = entries(files[&of(&manifest["layers"][0])].as_slice());
        assert_eq!(layer.keys().collect::<Vec<_>>(), ["bin", "bin/program", "tmp"]);
        assert_eq!(layer["bin/program"], b"program");
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_the_same_files_give_the_same_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let files = written(directory.path());
        for (name, content) in files.iter().filter(|(name, _)| name.starts_with("blobs/")) {
            assert_eq!(*name, blob(&digest(&mut content.as_slice()).unwrap()));
        }
        assert_eq!(files, written(directory.path()));
    }
}
