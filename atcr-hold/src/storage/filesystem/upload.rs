use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use atcr_core::syntax::Tid;
use jiff::Timestamp;

use super::super::{ObjectKey, Part, PartNumber, StorageError, StorageUpload};
use super::{failed, size_of, sync_directory, timestamp};

/// The directory of one upload. Every method blocks.
#[derive(Debug, Clone)]
pub(super) struct UploadDirectory {
    path: PathBuf,
    upload: StorageUpload,
}

/// The right to append to `data`. The system gives it back when this is dropped or the process ends.
pub(super) struct AppendLock(#[allow(dead_code, reason = "held, never read")] File);

/// One part in `data`: 16 bytes in the journal, little-endian.
struct Entry {
    end: u64,
    etag: Tid,
}

const ENTRY: u64 = 16;

/// Where the bytes of a part are.
enum Piece {
    File(PathBuf),
    Data { start: u64, end: u64 },
}

impl UploadDirectory {
    /// The directory of `upload`; it need not exist.
    pub(super) fn new(root: &Path, upload: &StorageUpload) -> Result<Self, StorageError> {
        let id = &upload.0;
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(StorageError::UploadUnknown(upload.clone()));
        }
        Ok(Self { path: root.join("uploads").join(id), upload: upload.clone() })
    }

    /// The directory to which a completed object at `path` belongs.
    pub(super) fn of_key(path: &Path) -> Option<Self> {
        let folder = path.parent()?;
        let id = folder.file_name()?.to_str()?.to_owned();
        let uploads = folder.parent().filter(|uploads| uploads.ends_with("uploads"))?;
        Self::new(uploads.parent()?, &StorageUpload(id)).ok()
    }

    /// The key of the completed object.
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::try_from(format!("uploads/{}/complete", self.upload)).expect("an upload id is hex")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn incoming(&self, etag: Tid) -> PathBuf {
        self.path.join(format!("incoming-{etag}"))
    }

    pub(super) fn part(&self, number: PartNumber, etag: Tid) -> PathBuf {
        self.path.join(format!("part-{number}-{etag}"))
    }

    fn complete_file(&self) -> PathBuf {
        self.path.join("complete")
    }

    fn unknown(&self) -> StorageError {
        StorageError::UploadUnknown(self.upload.clone())
    }

    /// What an I/O error below this directory means: that the upload is gone, when it is.
    pub(super) fn error(&self, doing: &str, path: &Path, error: io::Error) -> StorageError {
        if error.kind() == ErrorKind::NotFound && !self.path.exists() {
            self.unknown()
        } else {
            failed(doing, path)(error)
        }
    }

    pub(super) fn create(&self) -> Result<(), StorageError> {
        fs::create_dir(&self.path).map_err(failed("making", &self.path))?;
        for name in ["lock", "completing"] {
            let lock = self.path.join(name);
            File::create_new(&lock).map_err(failed("making", &lock))?;
        }
        Ok(())
    }

    /// When it was begun; `None` when it is gone.
    pub(super) fn started(&self) -> Result<Option<Timestamp>, StorageError> {
        let metadata = fs::metadata(self.path.join("lock")).or_else(|_| fs::metadata(&self.path));
        match metadata {
            Ok(metadata) => Ok(Some(timestamp(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("looking at", &self.path)(error)),
        }
    }

    /// Refuses an upload that is gone or completed.
    pub(super) fn check_open(&self) -> Result<(), StorageError> {
        if !self.path.is_dir() || self.complete_file().exists() {
            return Err(self.unknown());
        }
        Ok(())
    }

    /// Takes the right to append, unless somebody has it.
    pub(super) fn lock(&self) -> Result<Option<AppendLock>, StorageError> {
        let path = self.path.join("lock");
        let file = File::open(&path).map_err(|e| self.error("opening", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(AppendLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("locking", &path)(error)),
        }
    }

    fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// How many parts are in `data`, and where the last one ends.
    pub(super) fn journal_end(&self) -> Result<(u64, u64), StorageError> {
        let path = self.journal();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((0, 0)),
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let read = |file: &mut File| -> io::Result<(u64, u64)> {
            let count = file.metadata()?.len() / ENTRY;
            if count == 0 {
                return Ok((0, 0));
            }
            file.seek(SeekFrom::Start((count - 1) * ENTRY))?;
            let mut end = [0; 8];
            file.read_exact(&mut end)?;
            Ok((count, u64::from_le_bytes(end)))
        };
        read(&mut file).map_err(failed("reading", &path))
    }

    fn entries(&self) -> Result<Vec<Entry>, StorageError> {
        let path = self.journal();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("reading", &path)(error)),
        };
        let (entries, _torn) = bytes.as_chunks::<16>();
        Ok(entries
            .iter()
            .map(|entry| {
                let word = |at: usize| {
                    let mut word = [0; 8];
                    word.copy_from_slice(&entry[at..at + 8]);
                    u64::from_le_bytes(word)
                };
                let etag = word(8);
                Entry { end: word(0), etag: Tid::new(etag >> 10, (etag & 0x3ff) as u16) }
            })
            .collect())
    }

    /// Notes one more part in `data`. The caller has the lock.
    pub(super) fn journal_push(&self, end: u64, etag: Tid) -> Result<(), StorageError> {
        let (count, _) = self.journal_end()?;
        self.journal_write(count, end, etag)
    }

    fn journal_write(&self, at: u64, end: u64, etag: Tid) -> Result<(), StorageError> {
        let path = self.journal();
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&end.to_le_bytes());
        entry[8..].copy_from_slice(&((etag.micros() << 10) | u64::from(etag.clock())).to_le_bytes());
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| self.error("opening", &path, e))?;
        let mut write = || {
            // Half an entry is what a full disk leaves.
            file.set_len(at * ENTRY)?;
            file.seek(SeekFrom::Start(at * ENTRY))?;
            file.write_all(&entry)
        };
        write().map_err(failed("writing", &path))
    }

    /// All parts, the newest of each number.
    pub(super) fn parts(&self) -> Result<Vec<Part>, StorageError> {
        self.check_open()?;
        let mut newest: std::collections::BTreeMap<PartNumber, (Tid, u64)> =
            std::collections::BTreeMap::new();
        let mut add = |number, etag, size| {
            let known = newest.entry(number).or_insert((etag, size));
            if known.0 < etag {
                *known = (etag, size);
            }
        };
        let mut start = 0;
        for (entry, number) in self.entries()?.iter().zip(1..) {
            if let Some(number) = PartNumber::new(number) {
                add(number, entry.etag, entry.end.saturating_sub(start));
            }
            start = entry.end;
        }
        for entry in fs::read_dir(&self.path).map_err(|e| self.error("listing", &self.path, e))? {
            let entry = entry.map_err(failed("listing", &self.path))?;
            let name = entry.file_name();
            let part = name.to_str().and_then(|name| {
                let (number, etag) = name.strip_prefix("part-")?.split_once('-')?;
                Some((number.parse().ok()?, etag.parse().ok()?))
            });
            if let Some((number, etag)) = part
                && let Some(size) = size_of(&entry.path())?
            {
                add(number, etag, size);
            }
        }
        Ok(newest
            .into_iter()
            .map(|(number, (etag, size))| Part { number, size, etag: etag.to_string() })
            .collect())
    }

    /// Makes one durable file of these parts and gives its size.
    pub(super) fn complete(&self, parts: &[Part]) -> Result<u64, StorageError> {
        let complete = self.complete_file();
        let alone = self.path.join("completing");
        let alone = File::open(&alone).map_err(|e| self.error("opening", &alone, e))?;
        alone.lock().map_err(failed("locking", &self.path))?;
        if let Some(size) = size_of(&complete)? {
            return Ok(size);
        }
        if !self.path.is_dir() {
            return Err(self.unknown());
        }
        let lock = self.lock()?;
        let entries = self.entries()?;
        let data_size = size_of(&self.data())?.unwrap_or(0);
        let in_data = |part: &Part| {
            let at = usize::try_from(part.number.get() - 1).ok()?;
            let entry = entries.get(at)?;
            let start = at.checked_sub(1).map_or(0, |before| entries[before].end);
            let there = entry.etag.to_string() == part.etag && start <= entry.end && entry.end <= data_size;
            there.then_some(Piece::Data { start, end: entry.end })
        };
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let own = part.etag.parse().ok().map(|etag| self.part(part.number, etag));
            let piece = match (in_data(part), own) {
                (Some(piece), _) => piece,
                (None, Some(path)) if size_of(&path)?.is_some() => Piece::File(path),
                _ => return Err(StorageError::PartUnknown { number: part.number, etag: part.etag.clone() }),
            };
            pieces.push(piece);
        }
        let prefix = pieces.iter().take_while(|piece| matches!(piece, Piece::Data { .. })).count();
        let rest_in_files = pieces[prefix..].iter().all(|piece| matches!(piece, Piece::File(_)));
        // Whoever appends at this moment has `data` open, so it must not become the object then.
        let (path, size) = if lock.is_some() && rest_in_files {
            (self.data(), self.extend(&entries, prefix, parts, &pieces)?)
        } else {
            let whole = self.path.join("whole");
            (whole.clone(), self.copy(&whole, &pieces)?)
        };
        fs::rename(&path, &complete).map_err(|e| self.error("making", &complete, e))?;
        for folder in [Some(self.path.as_path()), self.path.parent()].into_iter().flatten() {
            sync_directory(folder).map_err(failed("syncing", folder))?;
        }
        Ok(size)
    }

    /// Appends the parts behind `prefix` to `data`, which keeps the parts before.
    fn extend(
        &self,
        entries: &[Entry],
        prefix: usize,
        parts: &[Part],
        pieces: &[Piece],
    ) -> Result<u64, StorageError> {
        let path = self.data();
        let mut end = prefix.checked_sub(1).map_or(0, |last| entries[last].end);
        let mut data = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| self.error("opening", &path, e))?;
        data.set_len(end).map_err(failed("truncating", &path))?;
        data.seek(SeekFrom::Start(end)).map_err(failed("seeking in", &path))?;
        for (at, (part, piece)) in parts.iter().zip(pieces).enumerate().skip(prefix) {
            end += self.append(&mut data, &path, piece)?;
            // So that a completion that is broken off here goes on here.
            if let Ok(etag) = part.etag.parse() {
                self.journal_write(at as u64, end, etag)?;
            }
        }
        data.sync_all().map_err(failed("syncing", &path))?;
        Ok(end)
    }

    fn copy(&self, path: &Path, pieces: &[Piece]) -> Result<u64, StorageError> {
        let mut file = File::create(path).map_err(|e| self.error("making", path, e))?;
        let mut size = 0;
        for piece in pieces {
            size += self.append(&mut file, path, piece)?;
        }
        file.sync_all().map_err(failed("syncing", path))?;
        Ok(size)
    }

    fn append(&self, target: &mut File, path: &Path, piece: &Piece) -> Result<u64, StorageError> {
        let (source, start, end) = match piece {
            Piece::File(source) => (source.clone(), 0, size_of(source)?.unwrap_or(0)),
            Piece::Data { start, end } => (self.data(), *start, *end),
        };
        let mut file = File::open(&source).map_err(|e| self.error("opening", &source, e))?;
        file.seek(SeekFrom::Start(start)).map_err(failed("seeking in", &source))?;
        let copied = io::copy(&mut file.take(end - start), target).map_err(failed("writing", path))?;
        if copied == end - start {
            Ok(copied)
        } else {
            Err(failed("reading", &source)(ErrorKind::UnexpectedEof.into()))
        }
    }

    pub(super) fn remove(&self) -> Result<(), StorageError> {
        for attempt in 0.. {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                // A part that came in at this moment.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && attempt < 3 => {}
                Err(error) => return Err(failed("removing", &self.path)(error)),
            }
        }
        Ok(())
    }
}
