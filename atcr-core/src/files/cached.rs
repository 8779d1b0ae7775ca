//! Reading without a change of threads where the kernel has the bytes at hand, which costs more than the reading: a
//! blob that is pulled often is. What would wait for a disk is left to a thread that may wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::blocking;
use crate::blob_store::ByteStream;

/// Bytes of a piece of a stream at most. Larger ones were not cheaper.
const PIECE_BYTES: u64 = 64 * 1024;

/// Opens a file for reading, and says how many bytes it has.
pub async fn open(path: PathBuf) -> io::Result<(File, u64)> {
    let file = match open_cached(&path)? {
        Some(file) => file,
        None => blocking(move || File::open(path)).await?,
    };
    // What an open file is like needs no disk.
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The `length` bytes of a file that follow the first `offset`, in pieces of 64 KiB at most. It ends with an error when
/// the file has fewer. Memory: two pieces.
pub fn stream(file: File, offset: u64, length: u64) -> ByteStream {
    let reader = Reader { file, offset, left: length, sent: Bytes::new() };
    stream::try_unfold(reader, |reader| async move { Ok(reader.next().await?) }).boxed()
}

struct Reader {
    file: File,
    offset: u64,
    left: u64,
    /// The last piece, whose memory the next one takes when nobody has it any more.
    sent: Bytes,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(self.left.min(PIECE_BYTES)).unwrap_or(usize::MAX);
        let mut piece = std::mem::take(&mut self.sent).try_into_mut().unwrap_or_default();
        piece.resize(wanted, 0);
        let mut count = read_cached(&self.file, &mut piece, self.offset)?;
        if count == 0 {
            let (file, offset) = (self.file, self.offset);
            let read = move || file.read_exact_at(&mut piece, offset).map(|()| (file, piece));
            (self.file, piece) = blocking(read).await?;
            count = wanted;
        }
        piece.truncate(count);
        self.sent = piece.freeze();
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(Some((self.sent.clone(), self)))
    }
}

/// `None` when the kernel would have to ask a disk, or cannot tell.
#[cfg(target_os = "linux")]
fn open_cached(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;

    match openat2(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => Ok(Some(file.into())),
        // Not at hand; or an older kernel, or one that forbids it, as the sandboxes of containers do.
        Err(Errno::AGAIN | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes came without waiting; 0 also when the system cannot tell.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};

    match preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN | Errno::INTR | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) => {
            Ok(0)
        }
        read => Ok(read?),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_cached(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use futures_util::TryStreamExt as _;
    use proptest::prelude::*;

    use super::*;

    async fn read(path: PathBuf, offset: u64, length: u64) -> Result<Vec<u8>, crate::Source> {
        let (file, _) = open(path).await?;
        stream(file, offset, length)
            .try_fold(Vec::new(), |all, piece| async move { Ok([&all[..], &piece].concat()) })
            .await
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_stream_is_the_bytes_of_the_file(size in 0..300_000_usize, at in 0..=100_u64, part in 0..=100_u64) {
            let content: Vec<u8> = (0..size).map(|n| (n * 31 % 251).to_le_bytes()[0]).collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let offset = size as u64 * at / 100;
            let length = (size as u64 - offset) * part / 100;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (_, there) = runtime.block_on(open(path.clone())).unwrap();
            prop_assert_eq!(there, size as u64);
            let bytes = runtime.block_on(read(path, offset, length)).unwrap();
            prop_assert!(bytes == content[usize::try_from(offset).unwrap()..][..usize::try_from(length).unwrap()]);
        }
    }

    #[tokio::test]
    async fn a_piece_that_somebody_kept_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [vec![1; 65536], vec![2; 65536], vec![3; 10]].concat()).unwrap();
        let (file, size) = open(path).await.unwrap();
        let pieces: Vec<Bytes> = stream(file, 0, size).try_collect().await.unwrap();
        let content = pieces.concat();
        assert!(content[..65536].iter().all(|byte| *byte == 1));
        assert!(content[65536..131_072].iter().all(|byte| *byte == 2));
        assert_eq!(content[131_072..], [3; 10]);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0; 100]).unwrap();
        assert!(read(path.clone(), 50, 51).await.is_err());
        assert_eq!(read(path, 50, 50).await.unwrap().len(), 50);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path().join("none")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
