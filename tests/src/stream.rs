//! Endless streams of bytes that anybody can make again from their seed, so that two ends compare hashes.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::Xxh3;

/// Length and hash of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub bytes: u64,
    pub hash: u64,
}

impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes with hash {:016x}", self.bytes, self.hash)
    }
}

/// Writes the first `bytes` bytes of the stream of `seed` and gives their digest.
///
/// # Errors
/// Those of `target`.
pub fn write(target: &mut impl Write, seed: u64, bytes: u64) -> io::Result<Digest> {
    let (mut generator, mut hash, mut left) = (Generator(seed), Xxh3::new(), bytes);
    let mut chunk = vec![0; usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK).next_multiple_of(8)];
    while left > 0 {
        generator.fill(&mut chunk);
        let part = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(CHUNK))];
        hash.update(part);
        target.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(Digest { bytes, hash: hash.digest() })
}

/// Reads to the end and gives the digest of what came.
///
/// # Errors
/// Those of `source`.
pub fn read(source: &mut impl Read) -> io::Result<Digest> {
    let (mut hash, mut bytes, mut chunk) = (Xxh3::new(), 0, vec![0; CHUNK]);
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(Digest { bytes, hash: hash.digest() }),
            Ok(count) => {
                hash.update(&chunk[..count]);
                bytes += count as u64;
            }
            // A machine that was suspended, say.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of the first `bytes` bytes of the stream of `seed`.
pub fn digest(seed: u64, bytes: u64) -> Digest {
    write(&mut io::sink(), seed, bytes).expect("a sink takes everything")
}

/// Written and read at a time.
const CHUNK: usize = 256 * 1024;

/// SplitMix64.
struct Generator(u64);

impl Generator {
    fn fill(&mut self, chunk: &mut [u8]) {
        for eight in chunk.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            eight.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_stream_have_the_same_digest() {
        for bytes in [0, 1, CHUNK as u64, 3 * CHUNK as u64 + 5] {
            let mut sent = Vec::new();
            let written = write(&mut sent, 7, bytes).unwrap();
            assert_eq!(sent.len() as u64, bytes);
            assert_eq!(read(&mut sent.as_slice()).unwrap(), written);
            assert_eq!(digest(7, bytes), written);
        }
        assert_ne!(digest(7, 100), digest(8, 100));
    }
}
