//! Writing a body of any size to a file: received by one thread while another one writes, past the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use memmap2::MmapMut;
use tokio::task::{JoinHandle, spawn_blocking};

use super::named;

/// What a direct write is aligned to, in the file and in memory: a multiple of every disk's sector.
const ALIGNMENT: usize = 4096;
/// The bytes that one write through the page cache should have at most. Larger ones make it take huge pages one by one,
/// which was measured to cost three times as much CPU time for each byte (Linux 6, ext4).
pub const WRITE_BYTES: usize = 64 * 1024;

/// A file that grows at its end.
///
/// Full blocks go to the disk directly (`O_DIRECT`) where the filesystem does that: copying them into the page cache
/// costs more CPU time than receiving and hashing them, and pushes out what is read. What is small stays at hand in
/// the cache. Nothing is durable before the file is synced.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    end: u64,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Cached,
    Direct,
    /// The filesystem does not write directly.
    OnlyCached,
}

impl Output {
    /// Goes on at the byte `end` of a file that was opened for writing. `path` is for errors.
    #[must_use]
    pub fn new(file: File, path: PathBuf, end: u64) -> Self {
        Self { file, path, end, mode: Mode::Cached }
    }

    /// The file; its position is not where the next byte goes.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the file was called when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next byte goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends a block. It blocks.
    ///
    /// # Errors
    ///
    /// When bytes cannot be written; others of the block may have been.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        let written = if block.is_full() { self.write_full(block) } else { self.write_cached(block.bytes()) };
        written.map_err(named("writing to", &self.path))
    }

    fn write_full(&mut self, block: &Block) -> io::Result<()> {
        // A block that begins anywhere ends at a boundary, and its bytes lie in memory as in the file.
        let (unaligned, aligned) = block.bytes().split_at(block.unaligned_bytes());
        self.write_cached(unaligned)?;
        let direct = self.write_direct(aligned)?;
        self.write_cached(&aligned[direct..])
    }

    /// How many of the bytes were written; what is left is for the cache.
    fn write_direct(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < bytes.len() && count % ALIGNMENT == 0 && self.switch(Mode::Direct)? {
            match self.file.write_at(&bytes[count..], self.end) {
                Ok(written) => {
                    count += written;
                    self.end += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.switch(Mode::OnlyCached)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn write_cached(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.switch(Mode::Cached)?;
        }
        for piece in bytes.chunks(WRITE_BYTES) {
            self.file.write_all_at(piece, self.end)?;
            self.end += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether the file is written in this way now.
    fn switch(&mut self, mode: Mode) -> io::Result<bool> {
        if self.mode != mode && self.mode != Mode::OnlyCached {
            let is_done = set_direct(&self.file, mode == Mode::Direct)?;
            self.mode = if is_done { mode } else { Mode::OnlyCached };
        }
        Ok(self.mode == mode)
    }
}

/// `false` when the filesystem does not write directly.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, direct: bool) -> io::Result<bool> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::io::Errno;

    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    match fcntl_setfl(file, flags) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File, direct: bool) -> io::Result<bool> {
    Ok(!direct)
}

/// The memory of all bodies that are received at once by one store. A body has two blocks at most: one that is filled
/// and one that is being written. They are of 1 MiB for the first two bodies, as each block wakes a thread, which costs
/// more than the write; and smaller for those that come meanwhile, down to 64 KiB: a hundred bodies at once take 29 MiB.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    bodies: Arc<AtomicUsize>,
}

impl Blocks {
    fn lend(&self) -> Loan {
        let bodies = self.bodies.fetch_add(1, Ordering::Relaxed) + 1;
        let block_kib = match bodies {
            0..=2 => 1024,
            3..=8 => 512,
            9..=16 => 256,
            17..=48 => 128,
            _ => 64,
        };
        Loan { bodies: Arc::clone(&self.bodies), block_bytes: block_kib * 1024 }
    }
}

/// The blocks of one body, until it is dropped.
struct Loan {
    bodies: Arc<AtomicUsize>,
    block_bytes: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes on their way to a file, aligned in memory as they will be there.
///
/// The memory is a mapping of its own: it begins at a page, what was not filled takes none, and it goes back to the
/// system at once. An allocator keeps what many bodies at once have taken.
#[derive(Debug)]
pub struct Block {
    memory: MmapMut,
    start: usize,
    end: usize,
}

impl Block {
    /// Of `size` bytes, which is a multiple of the alignment, less what stands before `offset` in its sector.
    fn new(size: usize, offset: u64) -> io::Result<Self> {
        let mut block = Self { memory: MmapMut::map_anon(size)?, start: 0, end: 0 };
        block.clear(offset);
        Ok(block)
    }

    /// Empties it for bytes that go to `offset`.
    fn clear(&mut self, offset: u64) {
        self.start = usize::try_from(offset % ALIGNMENT as u64).unwrap_or(0);
        self.end = self.start;
    }

    /// Takes bytes until it is full; how many it took.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let free = &mut self.memory[self.end..];
        let count = bytes.len().min(free.len());
        free[..count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    fn is_full(&self) -> bool {
        self.end == self.memory.len()
    }

    /// How many bytes stand before the first aligned one.
    fn unaligned_bytes(&self) -> usize {
        self.start.next_multiple_of(ALIGNMENT) - self.start
    }
}

/// Why a body did not get into its file.
#[derive(Debug, thiserror::Error)]
pub enum PourError<E> {
    /// The body ended early.
    #[error("the body was cut off")]
    Body(E),
    /// The file could not be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Receives a body to its end while its blocks are written, and calls `each` with its bytes in turn, to hash them while
/// they are in the processor's caches. What it gives back is still to be written: the block with the end of the body.
///
/// When it fails, and when the future is dropped, `sink` is dropped as soon as no write is under way any more.
///
/// # Errors
///
/// [`PourError`]: the body was cut off, or the file could not be written.
pub async fn pour<S, E>(
    blocks: &Blocks,
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin + ?Sized),
    mut sink: S,
    mut each: impl FnMut(&[u8]),
) -> Result<(S, Block), PourError<E>>
where
    S: AsMut<Output> + Send + 'static,
{
    let loan = blocks.lend();
    let mut block = Block::new(loan.block_bytes, sink.as_mut().end())?;
    let mut writer = Writer::Idle(sink);
    while let Some(piece) = body.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                writer.ready().await?;
                return Err(PourError::Body(error));
            }
        };
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (taken, left) = rest.split_at(block.fill(rest));
            each(taken);
            rest = left;
            if block.is_full() {
                let (sink, spare) = writer.ready().await?;
                let empty = match spare {
                    Some(block) => block,
                    None => Block::new(loan.block_bytes, 0)?,
                };
                writer = Writer::begin(sink, std::mem::replace(&mut block, empty));
            }
        }
    }
    let (sink, _) = writer.ready().await?;
    Ok((sink, block))
}

enum Writer<S> {
    Idle(S),
    Busy(JoinHandle<io::Result<(S, Block)>>),
}

impl<S: AsMut<Output> + Send + 'static> Writer<S> {
    fn begin(mut sink: S, mut block: Block) -> Self {
        Self::Busy(spawn_blocking(move || {
            sink.as_mut().write(&block)?;
            // A full block ends at a boundary, where the next one begins.
            block.clear(0);
            Ok((sink, block))
        }))
    }

    async fn ready(self) -> io::Result<(S, Option<Block>)> {
        match self {
            Self::Idle(sink) => Ok((sink, None)),
            Self::Busy(task) => {
                let (sink, block) = task.await.map_err(io::Error::other)??;
                Ok((sink, Some(block)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    const LARGEST_BLOCK: usize = 1024 * 1024;

    struct Sink(Output, Option<mpsc::Sender<()>>);

    impl AsMut<Output> for Sink {
        fn as_mut(&mut self) -> &mut Output {
            &mut self.0
        }
    }

    impl Drop for Sink {
        fn drop(&mut self) {
            if let Some(dropped) = self.1.take() {
                dropped.send(()).unwrap();
            }
        }
    }

    fn file_of(content: &[u8]) -> (tempfile::TempDir, PathBuf, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        (folder, path, file)
    }

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n * 31 % 251).to_le_bytes()[0]).collect()
    }

    fn pieces(content: &[u8], size: usize) -> Vec<Result<Bytes, &'static str>> {
        content.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_file_goes_on_with_the_bytes_of_the_body(
            before in prop_oneof![Just(0_usize), Just(ALIGNMENT), 0..20_000_usize],
            size in prop_oneof![Just(64 * 1024), Just(2 * LARGEST_BLOCK), 0..3 * LARGEST_BLOCK],
            piece in prop_oneof![1000..100_000_usize, Just(1 << 20)],
            others in 0..80_usize,
            mode in prop_oneof![Just(Mode::Cached), Just(Mode::OnlyCached)],
        ) {
            let all = content(before + size);
            let (_folder, path, file) = file_of(&all[..before]);
            let output = Output { mode, ..Output::new(file, path.clone(), before as u64) };
            let mut hashed = Vec::new();
            let blocks = Blocks::default();
            let _others: Vec<_> = (0..others).map(|_| blocks.lend()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut body = stream::iter(pieces(&all[before..], piece));
            let each = |bytes: &[u8]| hashed.extend_from_slice(bytes);
            let (mut sink, last) = runtime.block_on(pour(&blocks, &mut body, Sink(output, None), each)).unwrap();
            sink.0.write(&last).unwrap();
            prop_assert_eq!(sink.0.end(), all.len() as u64);
            prop_assert!(std::fs::read(path).unwrap() == all);
            prop_assert!(hashed == all[before..]);
        }
    }

    #[test]
    fn the_memory_of_many_bodies_at_once_is_bounded_and_is_given_back() {
        let blocks = Blocks::default();
        let loans: Vec<_> = (0..100).map(|_| blocks.lend()).collect();
        assert_eq!(loans[0].block_bytes, LARGEST_BLOCK);
        assert_eq!(loans[99].block_bytes, 64 * 1024);
        let memory: usize = loans.iter().map(|loan| 2 * loan.block_bytes).sum();
        assert_eq!(memory, 57 * 512 * 1024);
        drop(loans);
        assert_eq!(blocks.lend().block_bytes, LARGEST_BLOCK);
    }

    #[tokio::test]
    async fn nothing_is_written_any_more_when_a_body_that_was_cut_off_is_reported() {
        let (_folder, path, file) = file_of(b"");
        let (sender, dropped) = mpsc::channel();
        let mut cut = pieces(&content(3 * LARGEST_BLOCK), LARGEST_BLOCK);
        cut.push(Err("cut"));
        let sink = Sink(Output::new(file, path.clone(), 0), Some(sender));
        let poured = pour(&Blocks::default(), &mut stream::iter(cut), sink, |_| ()).await;
        assert!(matches!(poured, Err(PourError::Body("cut"))));
        dropped.try_recv().unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), 3 * LARGEST_BLOCK as u64);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let (_folder, path, _) = file_of(b"");
        let output = Output::new(File::open(&path).unwrap(), path.clone(), 0);
        let mut body = stream::iter(pieces(&content(2 * LARGEST_BLOCK), 1 << 20));
        match pour(&Blocks::default(), &mut body, Sink(output, None), |_| ()).await {
            Err(PourError::Output(error)) => {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
            _ => panic!("a file that is open for reading only takes bytes"),
        }
    }
}
