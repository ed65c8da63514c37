//! Transcripts that nothing is added to any more, as gzip. Of the two files that one may have, the plain one is whole
//! whenever it is there: a death at any point of packing or unpacking leaves either both or one of them.
//!
//! Must not: decide when something is packed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Where it is kept packed. `plain` ends in `.log`.
fn packed(plain: &Path) -> PathBuf {
    plain.with_extension("log.gz")
}

/// What a file is called while it is written. It belongs to nobody after a crash, and is written over.
fn part(of: &Path) -> PathBuf {
    let mut name = of.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn sync_folder(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(of))?.sync_all()
}

/// A packed copy that is not in its place yet.
pub struct Packed {
    plain: PathBuf,
    part: PathBuf,
    /// Bytes that were read of the plain one.
    bytes: u64,
}

/// Writes the packed copy. Blocking; the plain file is only read.
pub fn pack(plain: &Path) -> io::Result<Packed> {
    let mut from = File::open(plain)?;
    let part = part(&packed(plain));
    let mut out = GzEncoder::new(create(&part)?, Compression::default());
    let bytes = io::copy(&mut from, &mut out)?;
    out.finish()?.sync_all()?;
    Ok(Packed { plain: plain.to_owned(), part, bytes })
}

impl Packed {
    /// Takes the plain file's place, unless more was written into that meanwhile; nobody may write now.
    pub fn take_place(self) -> io::Result<bool> {
        if std::fs::metadata(&self.plain)?.len() != self.bytes {
            std::fs::remove_file(&self.part)?;
            return Ok(false);
        }
        std::fs::rename(&self.part, packed(&self.plain))?;
        sync_folder(&self.plain)?;
        std::fs::remove_file(&self.plain)?;
        Ok(true)
    }

    /// It is written into again.
    pub fn give_up(self) -> io::Result<()> {
        std::fs::remove_file(&self.part)
    }
}

/// Brings the plain file back, so that more can be added, if it is packed.
pub(super) fn unpack(plain: &Path) -> io::Result<()> {
    let packed = packed(plain);
    if plain.exists() || !packed.exists() {
        return Ok(());
    }
    let part = part(plain);
    let mut out = create(&part)?;
    io::copy(&mut open(plain)?, &mut out)?;
    out.flush()?;
    out.sync_all()?;
    std::fs::rename(&part, plain)?;
    sync_folder(plain)?;
    std::fs::remove_file(packed)
}

/// Removes it, packed or not, with what a death has left of packing it; whether there was anything. Nobody may write now.
pub fn remove(plain: &Path) -> io::Result<bool> {
    let packed = packed(plain);
    let mut removed = false;
    for file in [&part(&packed), &part(plain), plain, &packed] {
        match std::fs::remove_file(file) {
            Ok(()) => removed = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// From its beginning, packed or not.
pub fn open(plain: &Path) -> io::Result<Box<dyn Read + Send>> {
    skip(plain, 0)
}

/// From behind its first `from` bytes, packed or not; nothing where it has fewer.
pub(super) fn skip(plain: &Path, from: u64) -> io::Result<Box<dyn Read + Send>> {
    match File::open(plain) {
        Ok(mut file) => {
            // There is an end to what a file system can count to.
            file.seek(SeekFrom::Start(from.min(file.metadata()?.len())))?;
            Ok(Box::new(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = File::open(packed(plain))?;
            let mut whole = UpToTheTear { inner: MultiGzDecoder::new(BufReader::new(file)), said: None };
            io::copy(&mut whole.by_ref().take(from), &mut io::sink())?;
            Ok(Box::new(whole))
        }
        Err(error) => Err(error),
    }
}

/// Of the whole output, if that is known without reading it.
pub(super) fn plain_len(plain: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(plain) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What can be read of a file that is damaged or cut off, and then that it is.
struct UpToTheTear<R> {
    inner: R,
    /// What is still to be said of the tear.
    said: Option<io::Cursor<String>>,
}

impl<R: Read> Read for UpToTheTear<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(said) = &mut self.said {
            return said.read(into);
        }
        match self.inner.read(into) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let said = format!("\n── the rest is damaged and cannot be read: {error}\n");
                self.said.insert(io::Cursor::new(said)).read(into)
            }
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(plain: &Path) -> String {
        let mut text = String::new();
        open(plain).expect("opens").read_to_string(&mut text).expect("reads");
        text
    }

    fn lines(n: usize) -> String {
        (0..n).map(|n| format!("line {n} of an output\n")).collect()
    }

    #[test]
    fn what_is_packed_reads_as_before_and_takes_more() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = dir.path().join("R-1.log");
        std::fs::write(&plain, lines(10_000)).expect("writes");
        assert!(pack(&plain).expect("packs").take_place().expect("is put in place"));
        assert!(!plain.exists());
        let small = std::fs::metadata(packed(&plain)).expect("is there").len();
        assert!(small * 5 < lines(10_000).len() as u64, "{small}");
        assert_eq!(text(&plain), lines(10_000));
        unpack(&plain).expect("unpacks");
        assert!(!packed(&plain).exists());
        assert_eq!(text(&plain), lines(10_000));
    }

    #[test]
    fn a_death_at_any_point_loses_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = dir.path().join("R-1.log");
        std::fs::write(&plain, lines(10)).expect("writes");
        // While it is packed, and before the copy takes the place.
        drop(pack(&plain).expect("packs"));
        assert_eq!(text(&plain), lines(10));
        // After that, before the plain one is gone: more may be written then.
        std::fs::rename(part(&packed(&plain)), packed(&plain)).expect("renames");
        std::fs::write(&plain, lines(20)).expect("writes");
        assert_eq!(text(&plain), lines(20));
        assert!(pack(&plain).expect("packs").take_place().expect("is put in place"));
        assert_eq!(text(&plain), lines(20));
        // While it is unpacked: a part is nobody's.
        std::fs::write(part(&plain), "half").expect("writes");
        assert_eq!(text(&plain), lines(20));
        unpack(&plain).expect("unpacks");
        assert_eq!(text(&plain), lines(20));
        // More was written while it was packed.
        let copy = pack(&plain).expect("packs");
        std::fs::write(&plain, lines(30)).expect("writes");
        assert!(!copy.take_place().expect("is looked at"));
        assert_eq!(text(&plain), lines(30));
    }

    #[test]
    fn a_torn_file_is_read_up_to_the_tear() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = dir.path().join("R-1.log");
        let mut noise = String::new();
        for n in 0..20_000_u64 {
            noise.push_str(&format!("{}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        std::fs::write(&plain, &noise).expect("writes");
        assert!(pack(&plain).expect("packs").take_place().expect("is put in place"));
        let bytes = std::fs::read(packed(&plain)).expect("reads");
        std::fs::write(packed(&plain), &bytes[..bytes.len() / 2]).expect("writes");
        let read = text(&plain);
        let (whole, said) = read.split_once("\n── the rest is damaged").expect("it is said");
        assert!(whole.len() > noise.len() / 4 && noise.starts_with(whole), "{}", whole.len());
        assert!(said.ends_with('\n'));
    }
}
