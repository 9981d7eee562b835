//! What an ELF file says about what it needs: its loader, its libraries, where to look for them.
//!
//! Reads headers and the dynamic section only, without running `ldd` or the file. Invariant: any
//! file gives a value or an error within bounded memory, never a panic. Does not decide which
//! library a name means: that is [`search`].

pub(super) mod search;

use std::fs::File;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, ELFCLASS32, ELFCLASS64, ELFMAG,
    FileHeader32, FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};

/// Longest path or name that is read (the kernel's own bound on a loader's path).
const LONGEST_NAME: u64 = 4096;
/// Most entries of a dynamic section that are looked at; real ones have some dozens.
const MOST_ENTRIES: usize = 4096;

/// Why an ELF file or one of its libraries is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file can't be read.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file starts as ELF, but is damaged.
    #[error("{path} is not a valid ELF file: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A library is in none of the places where the loader would look.
    #[error("{needed_by} needs the library {name}, which is nowhere the loader looks")]
    NoLibrary {
        /// The library as the file names it.
        name: String,
        /// The file that needs it.
        needed_by: PathBuf,
    },
    /// More libraries than any program has.
    #[error("{path} needs more than {most} libraries")]
    TooMany {
        /// The program.
        path: PathBuf,
        /// The bound.
        most: usize,
    },
}

/// For which processor a file is: the loader skips libraries of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    class: u8,
    little_endian: bool,
    number: u16,
}

/// What one ELF file asks of the loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elf {
    /// Its processor.
    pub(super) machine: Machine,
    /// The loader (`PT_INTERP`), for programs.
    pub(super) interpreter: Option<PathBuf>,
    /// Needed libraries, in order.
    pub(super) needed: Vec<String>,
    /// `DT_RPATH`, split; empty when there is a `DT_RUNPATH`, which makes the loader ignore it.
    pub(super) rpath: Vec<String>,
    /// `DT_RUNPATH`, split.
    pub(super) runpath: Vec<String>,
}

impl Elf {
    /// Reads `path`; none when it is no ELF file at all (a script, data).
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ElfError> {
        let io = |source| ElfError::Io {
            path: path.to_owned(),
            source,
        };
        let data = ReadCache::new(File::open(path).map_err(io)?);
        Self::parse(&data).map_err(|reason| ElfError::Damaged {
            path: path.to_owned(),
            reason,
        })
    }

    fn parse<'data, R: ReadRef<'data>>(data: R) -> Result<Option<Self>, String> {
        let Ok(ident) = data.read_bytes_at(0, 5) else {
            return Ok(None);
        };
        if ident[..4] != ELFMAG {
            return Ok(None);
        }
        match ident[4] {
            ELFCLASS32 => Self::parse_class::<FileHeader32<Endianness>, R>(data).map(Some),
            ELFCLASS64 => Self::parse_class::<FileHeader64<Endianness>, R>(data).map(Some),
            class => Err(format!("unknown class {class}")),
        }
    }

    fn parse_class<'data, H, R>(data: R) -> Result<Self, String>
    where
        H: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let text = |error: object::Error| error.to_string();
        let header = H::parse(data).map_err(text)?;
        let endian = header.endian().map_err(text)?;
        let segments = header.program_headers(endian, data).map_err(text)?;
        let mut elf = Self {
            machine: Machine {
                class: header.e_ident().class,
                little_endian: endian == Endianness::Little,
                number: header.e_machine(endian),
            },
            interpreter: None,
            needed: Vec::new(),
            rpath: Vec::new(),
            runpath: Vec::new(),
        };
        for segment in segments {
            match segment.p_type(endian) {
                PT_INTERP => elf.interpreter = Some(interpreter::<H, R>(segment, endian, data)?),
                PT_DYNAMIC => {
                    let bounded = segment.p_filesz(endian).into() <= 1 << 20;
                    let dynamic = segment.dynamic(endian, data).map_err(text)?;
                    let dynamic = dynamic
                        .filter(|_| bounded)
                        .ok_or("dynamic section too long")?;
                    elf.read_dynamic::<H, R>(dynamic, segments, endian, data)?;
                }
                _ => {}
            }
        }
        Ok(elf)
    }

    fn read_dynamic<'data, H, R>(
        &mut self,
        dynamic: &[H::Dyn],
        segments: &[H::ProgramHeader],
        endian: H::Endian,
        data: R,
    ) -> Result<(), String>
    where
        H: FileHeader,
        R: ReadRef<'data>,
    {
        let entries: Vec<(u32, u64)> = dynamic
            .iter()
            .filter_map(|entry| Some((entry.tag32(endian)?, entry.d_val(endian).into())))
            .take_while(|(tag, _)| *tag != DT_NULL)
            .take(MOST_ENTRIES)
            .collect();
        let value = |wanted| {
            entries
                .iter()
                .find(|(tag, _)| *tag == wanted)
                .map(|&(_, v)| v)
        };
        let Some(address) = value(DT_STRTAB) else {
            return Ok(());
        };
        let start = file_offset::<H>(segments, endian, address).ok_or("no string table")?;
        let end = start.saturating_add(value(DT_STRSZ).unwrap_or(0));
        let string = |offset: u64| -> Result<String, String> {
            let from = start.checked_add(offset).filter(|from| *from < end);
            let from = from.ok_or("name outside the string table")?;
            let to = end.min(from.saturating_add(LONGEST_NAME));
            let bytes = data.read_bytes_at_until(from..to, 0);
            let bytes = bytes.map_err(|()| "name without end")?;
            String::from_utf8(bytes.to_vec()).map_err(|_| "name is not UTF-8".to_owned())
        };
        for &(tag, offset) in &entries {
            match tag {
                DT_NEEDED => self.needed.push(string(offset)?),
                DT_RPATH => self.rpath = split(&string(offset)?),
                DT_RUNPATH => self.runpath = split(&string(offset)?),
                _ => {}
            }
        }
        if value(DT_RUNPATH).is_some() {
            self.rpath.clear();
        }
        Ok(())
    }
}

fn interpreter<'data, H, R>(
    segment: &H::ProgramHeader,
    endian: H::Endian,
    data: R,
) -> Result<PathBuf, String>
where
    H: FileHeader,
    R: ReadRef<'data>,
{
    if segment.p_filesz(endian).into() > LONGEST_NAME {
        return Err("the loader's path is too long".to_owned());
    }
    let path = segment
        .interpreter(endian, data)
        .map_err(|error| error.to_string())?;
    let path = path
        .and_then(|path| std::str::from_utf8(path).ok())
        .map(PathBuf::from);
    path.filter(|path| path.is_absolute())
        .ok_or_else(|| "the loader is no absolute path".to_owned())
}

/// Where in the file a loaded address comes from.
fn file_offset<H: FileHeader>(
    segments: &[H::ProgramHeader],
    endian: H::Endian,
    address: u64,
) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .find_map(|segment| {
            let into = address.checked_sub(segment.p_vaddr(endian).into())?;
            let inside = into < segment.p_filesz(endian).into();
            let offset: u64 = segment.p_offset(endian).into();
            if inside {
                offset.checked_add(into)
            } else {
                None
            }
        })
}

fn split(list: &str) -> Vec<String> {
    list.split([':', ';'])
        .filter(|dir| !dir.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Elf>, String> {
        Elf::parse(&ReadCache::new(std::io::Cursor::new(bytes)))
    }

    fn shell() -> Vec<u8> {
        std::fs::read("/bin/sh").expect("every test machine has /bin/sh")
    }

    #[test]
    fn a_program_names_its_loader_and_its_libraries() {
        let elf = read(&shell()).expect("valid").expect("ELF");
        let loader = elf.interpreter.expect("a dynamic program has a loader");
        assert!(loader.exists(), "{}", loader.display());
        assert!(
            elf.needed.iter().any(|name| name.starts_with("libc.")),
            "{:?}",
            elf.needed
        );
    }

    #[test]
    fn what_is_no_elf_file_is_not_an_error() {
        for bytes in [&b""[..], b"#!", b"#!/bin/sh\n", b"\x7fELG\x02"] {
            assert_eq!(read(bytes), Ok(None));
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_or_less_and_never_a_panic() {
        let whole = shell();
        for length in (4..2048).chain((2048..whole.len()).step_by(1013)) {
            drop(read(&whole[..length]));
        }
        read(&whole[..70]).expect_err("the program headers are cut off");
    }

    #[test]
    fn no_damaged_header_panics_or_takes_the_memory() {
        let whole = shell();
        // The ELF header, the program headers, and the dynamic section are where lengths are.
        for position in 4..1024.min(whole.len()) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] = value;
                drop(read(&bytes));
            }
        }
    }
}
