//! Embeds what `ui/` was built to: `ui/dist` is committed, so that building needs no Node. Writes a table of its files,
//! each with its type, a tag of its content, its bytes, and its bytes compressed.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> io::Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=ui/dist");
    let mut files = Vec::new();
    find(&root.join("ui/dist"), "", &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (at, (name, path)) in files.iter().enumerate() {
        let bytes = fs::read(path)?;
        let packed = out.join(format!("ui-{at}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&packed)?, Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        let _ = writeln!(
            table,
            "    Asset {{ name: {name:?}, mime: {:?}, etag: \"W/\\\"{:016x}\\\"\", plain: include_bytes!({path:?}), \
             gzip: include_bytes!({packed:?}) }},",
            mime(name),
            hash(&bytes),
        );
    }
    table.push_str("]\n");
    fs::write(out.join("ui.rs"), table)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|e| panic!("cargo sets {name} for build scripts: {e}"))
}

/// Every file below a folder, with its path from there, parted by `/`.
fn find(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            find(&path, &format!("{name}/"), found)?;
        } else {
            found.push((name, path));
        }
    }
    Ok(())
}

fn mime(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("md") => "text/plain; charset=utf-8",
        _ => panic!("build.rs knows no type for ui/dist/{name}"),
    }
}

/// A tag that changes with the content; it need not be the same with every compiler.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
