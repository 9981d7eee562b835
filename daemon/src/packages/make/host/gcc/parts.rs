//! What of a compiler's installation goes into the package, by name.

use std::borrow::Cow;
use std::path::Path;

/// Compilers proper, which the driver finds itself.
pub(super) const PASSES: [&str; 2] = ["cc1", "cc1plus"];
/// Files of the compiler's that only some versions and configurations have.
pub(super) const OPTIONAL_PASSES: [&str; 2] = ["lto-wrapper", "liblto_plugin.so"];
/// Tools of binutils that no compiler runs.
pub(super) const BINUTILS: [&str; 6] = ["ar", "ranlib", "nm", "strip", "objdump", "readelf"];
/// Starts of names in the compiler's own directory that are taken.
const RUNTIME: [&str; 14] = [
    "crt",
    "libgcc",
    "libstdc++",
    "libsupc++",
    "libgomp",
    "libatomic",
    "libquadmath",
    "libssp",
    "libitm",
    "libgcov",
    "libstdc++exp",
    "libstdc++fs",
    "libstdc++_libbacktrace",
    "include",
];
/// What libc is linked with: start files, scripts, static libraries. Each is asked for.
pub(super) const LIBC: [&str; 35] = [
    "crt1.o",
    "Scrt1.o",
    "gcrt1.o",
    "rcrt1.o",
    "grcrt1.o",
    "Mcrt1.o",
    "crti.o",
    "crtn.o",
    "libc.so",
    "libc.a",
    "libc_nonshared.a",
    "libm.so",
    "libm.a",
    "libmvec.so",
    "libmvec.a",
    "libpthread.so",
    "libpthread.a",
    "libpthread_nonshared.a",
    "libdl.so",
    "libdl.a",
    "librt.so",
    "librt.a",
    "libutil.so",
    "libutil.a",
    "libresolv.so",
    "libresolv.a",
    "libanl.so",
    "libanl.a",
    "libcrypt.so",
    "libcrypt.a",
    "libg.a",
    "libmcheck.a",
    "libBrokenLocale.so",
    "libBrokenLocale.a",
    "libgcc_s.so.1",
];
/// Headers of libc and the kernel: directories, then files without their ending.
const HEADER_DIRECTORIES: &str = "arpa asm asm-generic bits c++ drm finclude fortify gnu linux \
    misc mtd net netash netatalk netax25 neteconet netinet netipx netiucv netpacket netrom netrose \
    nfs protocols rdma rpc scsi sound sys video xen";
const HEADER_FILES: &str = "a.out aio aliases alloca alltypes ar argp argz assert byteswap complex \
    cpio crypt ctype dirent dlfcn elf endian envz err errno error execinfo fcntl features \
    features-time64 fenv fmtmsg fnmatch fpu_control fstab fts ftw gconv getopt glob gnu-versions \
    grp gshadow iconv ieee754 ifaddrs inttypes langinfo lastlog libgen libintl limits link locale \
    malloc math mcheck memory mntent monetary mqueue netdb nl_types nss obstack paths poll printf \
    proc_service pthread pty pwd re_comp regex regexp resolv sched search semaphore setjmp sgtty \
    shadow signal spawn stab stdalign stdarg stdbool stdc-predef stddef stdint stdio stdio_ext \
    stdlib stdnoreturn string strings stropts syscall sysexits syslog tar termio termios tgmath \
    thread_db threads time ttyent uchar ucontext ulimit unistd utime utmp utmpx values wait wchar \
    wctype wordexp";

/// Whether an entry of the compiler's own directory is what every program is linked with, whatever its
/// language.
pub(in super::super) fn is_start(path: &Path) -> bool {
    let name = top(path);
    name.starts_with("crt") || name.starts_with("libgcc")
}

/// Whether an entry of the compiler's own directory is taken.
pub(super) fn is_runtime(path: &Path) -> bool {
    let name = top(path);
    let is_spec = Path::new(&*name)
        .extension()
        .is_some_and(|end| end == "spec");
    (is_spec && !name.starts_with("libsanitizer"))
        || RUNTIME.iter().any(|start| name.starts_with(start))
}

/// The first component of a path.
fn top(path: &Path) -> Cow<'_, str> {
    let first = path.components().next();
    first
        .map(|part| part.as_os_str().to_string_lossy())
        .unwrap_or_default()
}

/// Whether a path below an include directory is a header of libc or the kernel.
pub(super) fn is_system_header(path: &Path) -> bool {
    let top = top(path);
    match top.strip_suffix(".h") {
        Some(stem) => HEADER_FILES.split_whitespace().any(|file| file == stem),
        None => HEADER_DIRECTORIES
            .split_whitespace()
            .any(|directory| directory == top),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_hosts_headers_only_those_of_libc_and_the_kernel_are_taken() {
        let taken = [
            "stdio.h",
            "sys/types.h",
            "bits/alltypes.h",
            "linux/if.h",
            "asm/unistd.h",
            "c++/12/vector",
            "features-time64.h",
        ];
        let left = [
            "openssl/ssl.h",
            "python3.11/Python.h",
            "zlib.h",
            "stdio",
            "sys.h",
            "X11",
        ];
        for path in taken {
            assert!(is_system_header(Path::new(path)), "{path}");
        }
        for path in left {
            assert!(!is_system_header(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn the_compilers_own_directory_goes_without_sanitizers_and_other_languages() {
        let taken = [
            "crtbegin.o",
            "libgcc.a",
            "libstdc++.so",
            "include/stddef.h",
            "libgomp.spec",
        ];
        let left = [
            "libasan.a",
            "libsanitizer.spec",
            "lto1",
            "f951",
            "plugin/include",
            "libtsan.a",
        ];
        for path in taken {
            assert!(is_runtime(Path::new(path)), "{path}");
        }
        for path in left {
            assert!(!is_runtime(Path::new(path)), "{path}");
        }
    }
}
