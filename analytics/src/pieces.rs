//! Parts of files that threads take when they are free.
//!
//! The engine deals files out, and a thread that is done takes a file that nobody began: at the end one reads a whole file
//! and the others wait for it.

use datafusion::datasource::listing::PartitionedFile;

/// Least bytes of a piece of a file: about a row group.
const PIECE_BYTES_MIN: u64 = if cfg!(test) { 4 << 10 } else { 8 << 20 };

/// Files cut into pieces of falling sizes, so that all of `threads` end at about the same time: whichever is free takes
/// the next one, and reads the row groups that begin in it.
pub(crate) fn pieces(files: Vec<PartitionedFile>, threads: usize) -> Vec<PartitionedFile> {
    let mut left: u64 = files.iter().map(|file| file.object_meta.size).sum();
    let mut pieces = Vec::with_capacity(files.len());
    for file in files {
        let (mut from, end) = (0, file.object_meta.size);
        while from < end {
            let piece = (left / (2 * threads as u64)).max(PIECE_BYTES_MIN);
            let to = match from + piece {
                // What would be left over is not worth opening the file once more.
                to if to + PIECE_BYTES_MIN / 2 >= end => end,
                to => to,
            };
            pieces.push(file.clone().with_range(from as i64, to as i64));
            left = left.saturating_sub(to - from);
            from = to;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_their_files_and_become_smaller() {
        for sizes in [
            vec![],
            vec![1],
            vec![100_000, 3, 4_096, 0, 70_000],
            vec![1 << 20; 9],
        ] {
            let files = sizes.iter().enumerate();
            let files = files.map(|(at, bytes)| PartitionedFile::new(at.to_string(), *bytes));
            let (mut covered, mut largest) = (vec![0; sizes.len()], u64::MAX);
            for piece in pieces(files.collect(), 2) {
                let file: usize = piece.path().as_ref().parse().expect("a number");
                let (from, to) = piece.range();
                assert_eq!(from, covered[file]);
                covered[file] = to;
                // The last one of a file may have taken what was left over.
                assert!(to - from <= largest.saturating_add(PIECE_BYTES_MIN / 2));
                if to < sizes[file] {
                    largest = largest.min(to - from);
                }
            }
            assert_eq!(covered, sizes);
        }
    }
}
