use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::super::UploadState;
use super::unique;
use crate::error::StoreError;
use crate::files::{Block, Output, WRITE_BYTES, named};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

/// From how many of the last steps an upload can go on.
const STEPS: usize = 16;
/// How many segments an upload has at most. It has more than one only when steps were done over or at the same time.
const SEGMENTS: usize = 256;

/// The directory of an upload. Every method blocks.
///
/// Bytes of a segment that its journal counts never change. The next step goes on in the last segment when nobody
/// else writes there and nothing follows, and makes a new segment otherwise; so a step that is repeated while its
/// first attempt still hangs, or from an earlier state, spoils nothing. The journal is replaced with each step, which
/// is when the step's bytes begin to count; they are synced before.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    path: PathBuf,
}

/// What an [`UploadState`] of this store says, beside which upload it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    step: u64,
    offset: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    repository: RepositoryName,
    /// In the order of the bytes.
    segments: Vec<Segment>,
    /// The last steps.
    steps: Vec<Step>,
}

/// A file with the bytes `start..end` of the upload.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Segment {
    name: u64,
    start: u64,
    end: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Step {
    id: u64,
    offset: u64,
    /// The state of the hasher after it.
    hash: String,
}

impl Journal {
    /// The upload as it was at `place`: [`StoreError::UploadUnknown`] when there is no such step, or not any more.
    pub(super) fn until(mut self, place: Place) -> Result<Self, StoreError> {
        let known = |step: &Step| step.id == place.step && step.offset == place.offset;
        let at = self.steps.iter().position(known).ok_or(StoreError::UploadUnknown)?;
        self.steps.truncate(at + 1);
        self.segments.retain(|segment| segment.start < place.offset);
        if let Some(last) = self.segments.last_mut() {
            last.end = place.offset;
        }
        Ok(self)
    }

    fn last(&self) -> Option<u64> {
        self.steps.last().map(|step| step.id)
    }

    fn hasher(&self) -> Result<Hasher, StoreError> {
        let state = self.steps.last().and_then(|step| BASE64.decode(step.hash.as_bytes()).ok());
        state.and_then(|state| Hasher::from_state(&state)).ok_or(StoreError::UploadUnknown)
    }

    fn push(&mut self, offset: u64, hasher: &Hasher) -> Result<Place, StoreError> {
        let step = Step { id: unique()?, offset, hash: BASE64.encode(&hasher.to_state()) };
        let place = Place { step: step.id, offset };
        self.steps.push(step);
        self.steps.drain(..self.steps.len().saturating_sub(STEPS));
        Ok(place)
    }
}

/// The right to read the journal and replace it. The system gives it back when this is dropped or the process ends.
struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Upload {
    /// Makes the directory of a new upload.
    pub(super) fn begin(
        uploads: &Path,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<UploadState, StoreError> {
        let id = unique()?;
        let upload = Self::at(uploads, id);
        fs::create_dir(&upload.path).map_err(named("making", &upload.path))?;
        let mut journal = Journal { repository: repository.clone(), segments: Vec::new(), steps: Vec::new() };
        let place = journal.push(0, &Hasher::new(algorithm))?;
        upload.replace(&journal)?;
        Ok(upload.state(place))
    }

    fn at(uploads: &Path, id: u64) -> Self {
        Self { path: uploads.join(format!("{id:016x}")) }
    }

    /// The upload and the place that a state names; neither need exist.
    pub(super) fn of(uploads: &Path, state: &UploadState) -> Result<(Self, Place), StoreError> {
        let read = || {
            let (id, step) = state.state.split_first_chunk()?;
            Some((u64::from_be_bytes(*id), u64::from_be_bytes(step.try_into().ok()?)))
        };
        let (id, step) = read().ok_or(StoreError::UploadUnknown)?;
        Ok((Self::at(uploads, id), Place { step, offset: state.offset }))
    }

    fn state(&self, place: Place) -> UploadState {
        let id = self.path.file_name().and_then(|name| HEXLOWER.decode(name.as_encoded_bytes()).ok());
        let state = [id.unwrap_or_default(), place.step.to_be_bytes().to_vec()].concat();
        UploadState { offset: place.offset, state: state.into() }
    }

    fn segment(&self, name: u64) -> PathBuf {
        self.path.join(format!("{name:016x}"))
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        let directory = File::open(&self.path).map_err(|error| self.failed("opening", error))?;
        directory.lock().map_err(named("locking", &self.path))?;
        Ok(Lock(directory))
    }

    /// What an error below the directory means: that the upload has ended, when something is not there.
    fn failed(&self, doing: &str, error: io::Error) -> StoreError {
        if error.kind() == ErrorKind::NotFound {
            StoreError::UploadUnknown
        } else {
            named(doing, &self.path)(error).into()
        }
    }

    /// [`StoreError::UploadUnknown`] when it belongs to another repository.
    pub(super) fn journal(&self, repository: &RepositoryName) -> Result<Journal, StoreError> {
        let bytes = fs::read(self.path.join("journal")).map_err(|error| self.failed("reading", error))?;
        // After a power failure it can be any bytes.
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|_| StoreError::UploadUnknown)?;
        if journal.repository == *repository { Ok(journal) } else { Err(StoreError::UploadUnknown) }
    }

    /// Needs the lock, but at the beginning.
    fn replace(&self, journal: &Journal) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(journal).map_err(StoreError::internal)?;
        let next = self.path.join("journal.next");
        fs::write(&next, bytes)
            .and_then(|()| fs::rename(&next, self.path.join("journal")))
            .map_err(|error| self.failed("writing the journal of", error))
    }

    /// Opens the end of the upload; with what has been hashed until there.
    pub(super) fn writer(
        self,
        repository: &RepositoryName,
        place: Place,
    ) -> Result<(Writer, Hasher), StoreError> {
        let lock = self.lock()?;
        let journal = self.journal(repository)?;
        let is_last = journal.last() == Some(place.step);
        let journal = journal.until(place)?;
        let hasher = journal.hasher()?;
        let segment = journal.segments.last().copied().filter(|_| is_last);
        let target = match segment.map(|segment| self.reopen(segment)).transpose()?.flatten() {
            Some(target) => target,
            None if journal.segments.len() >= SEGMENTS => {
                return Err(StoreError::Conflict("the upload".to_owned()));
            }
            None => {
                let name = unique()?;
                let path = self.segment(name);
                let file = File::create_new(&path).map_err(|error| self.failed("writing to", error))?;
                file.try_lock().map_err(io::Error::from).map_err(named("locking", &path))?;
                Target { name, output: Output::new(file, path, 0), start: 0, is_new: true }
            }
        };
        drop(lock);
        let repository = repository.clone();
        Ok((Writer { upload: self, repository, place, target, done: false }, hasher))
    }

    /// The last segment, cut to what counts; `None` when somebody writes to it.
    fn reopen(&self, segment: Segment) -> Result<Option<Target>, StoreError> {
        let path = self.segment(segment.name);
        let open = File::options().read(true).write(true).open(&path);
        let file = open.map_err(|error| self.failed("opening", error))?;
        let metadata = file.metadata().map_err(named("looking at", &path))?;
        let start = segment.end - segment.start;
        // With a second name it is a blob already: the process ended between the two halves of a finish.
        if metadata.nlink() != 1 || file.try_lock().is_err() {
            return Ok(None);
        }
        if metadata.len() < start {
            return Err(StoreError::UploadUnknown);
        }
        file.set_len(start).map_err(named("cutting", &path))?;
        Ok(Some(Target { name: segment.name, output: Output::new(file, path, start), start, is_new: false }))
    }

    /// Makes one synced file of the upload, if it has the digest, and ends the upload when `publish` took the file.
    pub(super) fn finish(
        &self,
        repository: &RepositoryName,
        place: Place,
        digest: &Digest,
        publish: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let journal = self.journal(repository)?.until(place)?;
        let mut hasher = journal.hasher()?;
        if hasher.algorithm() != digest.algorithm() {
            hasher = Hasher::new(digest.algorithm());
            self.read(&journal.segments, |piece| {
                hasher.update(piece);
                Ok(())
            })?;
        }
        let actual = hasher.finish();
        if actual != *digest {
            let (expected, actual) = (Box::new(*digest), Some(Box::new(actual)));
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        let whole = match &*journal.segments {
            [only] => self.cut(*only)?,
            _ => None,
        };
        let whole = match whole {
            Some(whole) => whole,
            None => self.join(&journal.segments)?,
        };
        publish(&whole)?;
        self.remove()
    }

    /// The file of an upload's only segment, without what does not count; `None` when somebody writes to it.
    fn cut(&self, segment: Segment) -> Result<Option<PathBuf>, StoreError> {
        let path = self.segment(segment.name);
        let file = File::options().write(true).open(&path).map_err(|error| self.failed("opening", error))?;
        let metadata = file.metadata().map_err(named("looking at", &path))?;
        if metadata.len() < segment.end {
            return Err(StoreError::UploadUnknown);
        }
        if metadata.len() > segment.end {
            if metadata.nlink() != 1 || file.try_lock().is_err() {
                return Ok(None);
            }
            file.set_len(segment.end).map_err(named("cutting", &path))?;
        } else if metadata.nlink() == 1 && file.try_lock().is_err() {
            return Ok(None);
        }
        file.sync_all().map_err(named("syncing", &path))?;
        Ok(Some(path))
    }

    /// One file of several segments, or of none.
    fn join(&self, segments: &[Segment]) -> Result<PathBuf, StoreError> {
        let path = self.path.join("whole");
        let mut whole = File::create(&path).map_err(named("making", &path))?;
        self.read(segments, |piece| whole.write_all(piece))?;
        whole.sync_all().map_err(named("syncing", &path))?;
        Ok(path)
    }

    /// Reads what counts of the segments.
    fn read(
        &self,
        segments: &[Segment],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut buffer = vec![0; WRITE_BYTES];
        for segment in segments {
            let path = self.segment(segment.name);
            let mut file = File::open(&path).map_err(|error| self.failed("opening", error))?;
            let mut left = segment.end - segment.start;
            while left > 0 {
                let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                let count = file.read(&mut buffer[..most]).map_err(named("reading", &path))?;
                if count == 0 {
                    return Err(StoreError::UploadUnknown);
                }
                take(&buffer[..count]).map_err(named("copying", &path))?;
                left -= count as u64;
            }
        }
        Ok(())
    }

    pub(super) fn abort(&self, repository: &RepositoryName, place: Place) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        self.journal(repository)?.until(place)?;
        self.remove()
    }

    fn remove(&self) -> Result<(), StoreError> {
        // First of all, so that nothing goes on with it when the process ends here.
        fs::remove_file(self.path.join("journal")).map_err(|error| self.failed("ending", error))?;
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "what is left of an upload stays until it is swept");
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes the files of steps that do not count any more.
    fn prune(&self, journal: &Journal) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.and_then(|name| u64::from_str_radix(name, 16).ok()) else { continue };
            let counts = journal.segments.iter().any(|segment| segment.name == name);
            // Somebody may be writing to one that will count.
            if !counts && File::open(&path)?.try_lock().is_ok() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

struct Target {
    name: u64,
    output: Output,
    /// Where in the file the step begins.
    start: u64,
    is_new: bool,
}

/// A step on its way to the disk. Dropped before it is acknowledged, it leaves nothing that counts.
pub(super) struct Writer {
    upload: Upload,
    repository: RepositoryName,
    place: Place,
    target: Target,
    done: bool,
}

impl AsMut<Output> for Writer {
    fn as_mut(&mut self) -> &mut Output {
        &mut self.target.output
    }
}

impl Writer {
    /// Makes the step count, after its last bytes. [`StoreError::UploadUnknown`] when the step before it does not any
    /// more.
    pub(super) fn acknowledge(mut self, last: &Block, hasher: &Hasher) -> Result<UploadState, StoreError> {
        self.target.output.write(last)?;
        let (upload, target) = (&self.upload, &self.target);
        let written = target.output.end() - target.start;
        if written > 0 {
            target.output.file().sync_data().map_err(named("syncing", target.output.path()))?;
        }
        let _lock = upload.lock()?;
        let journal = upload.journal(&self.repository)?;
        let before = journal.segments.len();
        let is_last = journal.last() == Some(self.place.step);
        let mut journal = journal.until(self.place)?;
        let (start, end) = (self.place.offset, self.place.offset + written);
        match journal.segments.last_mut() {
            Some(last) if !target.is_new => last.end = end,
            _ if written == 0 => {}
            _ => journal.segments.push(Segment { name: target.name, start, end }),
        }
        let place = journal.push(end, hasher)?;
        upload.replace(&journal)?;
        self.done = written > 0;
        if (!is_last || before > 1)
            && let Err(error) = upload.prune(&journal)
        {
            tracing::warn!(%error, "what steps that were done over have left stays until the upload ends");
        }
        Ok(upload.state(place))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let Target { output, start, is_new, .. } = &self.target;
        let path = output.path();
        let cleared = if *is_new { fs::remove_file(path) } else { output.file().set_len(*start) };
        if let Err(error) = cleared
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "an unfinished step stays until its upload ends");
        }
    }
}

/// Removes the uploads that nobody has gone on with for `idle`.
pub(super) fn sweep(uploads: &Path, idle: Duration) -> Result<usize, StoreError> {
    let now = SystemTime::now();
    let is_old = |path: &Path| {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age >= idle))
    };
    let mut swept = 0;
    for entry in fs::read_dir(uploads).map_err(named("listing", uploads))? {
        let path = entry.map_err(named("listing", uploads))?.path();
        if !is_old(&path) {
            continue;
        }
        let removed = if path.is_dir() {
            // A step that has been going on for so long shows in the file that it writes to.
            let Ok(mut files) = fs::read_dir(&path) else { continue };
            if !files.all(|file| file.is_ok_and(|file| is_old(&file.path()))) {
                continue;
            }
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(named("sweeping", &path)(error).into()),
        }
    }
    Ok(swept)
}
