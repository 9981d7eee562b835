//! Compressing blocks: one encoder per thread, and a pool of threads whose results keep order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Compressor, PackError};
use crate::image::format::Codec;

impl Compressor {
    pub(super) fn codec(self) -> Codec {
        match self {
            Self::Zstd(_) => Codec::Zstd,
            Self::Gzip(_) => Codec::Gzip,
            Self::Lz4 => Codec::Lz4,
        }
    }

    /// The options that an image of it must tell: of LZ4 the version of its format, and no more.
    pub(super) fn options(self) -> Option<[u8; 8]> {
        match self {
            Self::Zstd(_) | Self::Gzip(_) => None,
            Self::Lz4 => Some([1, 0, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// A compressor with its working memory.
pub(super) enum Encoder {
    Zstd(zstd_safe::CCtx<'static>, i32),
    Gzip(libdeflater::Compressor),
    Lz4,
}

/// A block as it is stored.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) compressed: bool,
}

impl Encoder {
    pub(super) fn new(compressor: Compressor) -> Result<Self, PackError> {
        let bad_level = || PackError::Level { compressor };
        match compressor {
            Compressor::Zstd(level) if (1..=22).contains(&level) => {
                let context = zstd_safe::CCtx::try_create().ok_or_else(bad_level)?;
                Ok(Self::Zstd(context, level))
            }
            Compressor::Gzip(level) if (1..=9).contains(&level) => {
                let level = i32::try_from(level).map_err(|_| bad_level())?;
                let level = libdeflater::CompressionLvl::new(level).map_err(|_| bad_level())?;
                Ok(Self::Gzip(libdeflater::Compressor::new(level)))
            }
            Compressor::Lz4 => Ok(Self::Lz4),
            Compressor::Zstd(_) | Compressor::Gzip(_) => Err(bad_level()),
        }
    }

    /// Compresses a block; one that does not become smaller is kept as it is.
    pub(super) fn pack(&mut self, data: Vec<u8>) -> Packed {
        let mut bytes = Vec::new();
        let size = match self {
            Self::Zstd(context, level) => {
                bytes.resize(zstd_safe::compress_bound(data.len()), 0);
                context.compress(&mut bytes[..], &data, *level).ok()
            }
            Self::Gzip(compressor) => {
                bytes.resize(compressor.zlib_compress_bound(data.len()), 0);
                compressor.zlib_compress(&data, &mut bytes).ok()
            }
            Self::Lz4 => {
                let bound = lz4_flex::block::get_maximum_output_size(data.len());
                bytes.resize(bound, 0);
                lz4_flex::block::compress_into(&data, &mut bytes).ok()
            }
        };
        match size {
            Some(size) if size < data.len() => {
                bytes.truncate(size);
                Packed {
                    bytes,
                    compressed: true,
                }
            }
            _ => Packed {
                bytes: data,
                compressed: false,
            },
        }
    }
}

/// A block to compress, and where the result goes.
struct Job {
    data: Vec<u8>,
    reply: SyncSender<Packed>,
}

/// Threads that compress. They end when the pool is dropped.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    /// Compresses on the caller's thread where no other could be started.
    own: Option<Encoder>,
    pub(super) threads: usize,
}

/// The receiving end of the jobs, which outlives the pool.
pub(super) struct Queue {
    jobs: Mutex<Receiver<Job>>,
}

impl Pool {
    /// A pool without threads, and the queue that its threads will take jobs from.
    pub(super) fn new(compressor: Compressor) -> Result<(Self, Queue), PackError> {
        let (jobs, queue) = sync_channel(1);
        let pool = Self {
            jobs,
            own: Some(Encoder::new(compressor)?),
            threads: 0,
        };
        let queue = Queue {
            jobs: Mutex::new(queue),
        };
        Ok((pool, queue))
    }

    /// Starts a thread for each processor, as far as the host lets us.
    pub(super) fn start<'scope>(
        &mut self,
        scope: &'scope thread::Scope<'scope, '_>,
        queue: &'scope Queue,
        compressor: Compressor,
    ) -> Result<(), PackError> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            let encoder = Encoder::new(compressor)?;
            let worker = thread::Builder::new().name("pack".to_owned());
            if worker
                .spawn_scoped(scope, move || queue.work(encoder))
                .is_err()
            {
                break;
            }
            self.threads += 1;
            self.own = None;
        }
        Ok(())
    }

    /// Has a block compressed; the result comes from the receiver.
    pub(super) fn submit(&mut self, data: Vec<u8>) -> Receiver<Packed> {
        let (reply, result) = sync_channel(1);
        match &mut self.own {
            // The receiver is ours and has room, so neither sending can fail while threads live;
            // if they do not, the caller sees that its receiver got nothing.
            Some(encoder) => drop(reply.send(encoder.pack(data))),
            None => drop(self.jobs.send(Job { data, reply })),
        }
        result
    }
}

impl Queue {
    fn work(&self, mut encoder: Encoder) {
        loop {
            let next = self
                .jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(Job { data, reply }) = next else {
                return;
            };
            // Nobody waits any more when packing failed elsewhere.
            drop(reply.send(encoder.pack(data)));
        }
    }
}
