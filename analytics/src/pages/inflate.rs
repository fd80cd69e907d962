//! A page's bytes, inflated no further than somebody looks.
//!
//! Texts that do not repeat are most of what a page has: an event in its middle needs half of it. Each thread keeps
//! what zstd works with, which costs as much to make as a small page to inflate.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

/// Bytes that are inflated at once, at least; zstd's own blocks are as large.
const STEP: usize = 128 << 10;
/// A thread's buffer that has become larger is not kept.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static KEPT: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// What inflating works with.
pub(super) struct Scratch {
    context: DCtx<'static>,
    bytes: Vec<u8>,
}

/// The bytes of a page.
pub(super) enum PageBytes<'a> {
    /// As they lie in the file.
    Stored(&'a [u8]),
    /// Inflated as a whole.
    Whole(Vec<u8>),
    /// Inflated as far as somebody looked.
    Zstd {
        stored: &'a [u8],
        read: usize,
        total: usize,
        scratch: Option<Scratch>,
    },
}

impl Drop for PageBytes<'_> {
    fn drop(&mut self) {
        if let Self::Zstd { scratch, .. } = self
            && let Some(scratch) = scratch.take()
            && scratch.bytes.capacity() <= KEPT_BYTES_MAX
        {
            KEPT.with_borrow_mut(|kept| *kept = Some(scratch));
        }
    }
}

impl<'a> PageBytes<'a> {
    /// A block of lz4 that inflates to `total`.
    pub(super) fn lz4(stored: &[u8], total: usize) -> Option<Self> {
        let mut bytes = vec![0; total];
        let count = lz4_flex::block::decompress_into(stored, &mut bytes).ok()?;
        (count == total).then_some(Self::Whole(bytes))
    }

    /// Bytes of zstd that inflate to `total`.
    pub(super) fn zstd(stored: &'a [u8], total: usize) -> Option<Self> {
        let scratch = KEPT.with_borrow_mut(Option::take);
        let mut scratch = match scratch {
            Some(scratch) => scratch,
            None => Scratch {
                context: DCtx::try_create()?,
                bytes: Vec::new(),
            },
        };
        scratch.context.reset(ResetDirective::SessionOnly).ok()?;
        scratch.bytes.clear();
        Some(Self::Zstd {
            stored,
            read: 0,
            total,
            scratch: Some(scratch),
        })
    }

    /// At least the first `wanted` bytes; `None` when there are fewer, or what is stored is damaged.
    pub(super) fn first(&mut self, wanted: usize) -> Option<&[u8]> {
        match self {
            Self::Stored(bytes) => (wanted <= bytes.len()).then_some(*bytes),
            Self::Whole(bytes) => (wanted <= bytes.len()).then_some(bytes.as_slice()),
            Self::Zstd {
                stored,
                read,
                total,
                scratch,
            } => {
                let Scratch { context, bytes } = scratch.as_mut()?;
                if wanted > *total {
                    return None;
                }
                if bytes.capacity() < *total {
                    bytes.reserve_exact(*total - bytes.len());
                }
                while bytes.len() < wanted {
                    let (have, end) = (bytes.len(), (bytes.len() + STEP).max(wanted).min(*total));
                    bytes.resize(end, 0);
                    let mut output = OutBuffer::around_pos(&mut bytes[..], have);
                    let mut input = InBuffer::around(stored);
                    input.set_pos(*read);
                    while output.pos() < end {
                        let before = (output.pos(), input.pos());
                        context.decompress_stream(&mut output, &mut input).ok()?;
                        if (output.pos(), input.pos()) == before {
                            return None;
                        }
                    }
                    *read = input.pos();
                }
                Some(bytes.as_slice())
            }
        }
    }

    /// All of them.
    pub(super) fn whole(&mut self) -> Option<&[u8]> {
        self.first(self.count())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Stored(bytes) => bytes.len(),
            Self::Whole(bytes) => bytes.len(),
            Self::Zstd { total, .. } => *total,
        }
    }
}
