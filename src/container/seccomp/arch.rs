//! System call ABIs: what an architecture is to a filter.

use std::ops::RangeInclusive;

/// The bit that marks a call of the x32 ABI (`__X32_SYSCALL_BIT` of asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The number that a tracer leaves in place of a call it cancelled (-1 as the filter sees it). It is no
/// call of any ABI and always gets the default action, so that a killing profile does not kill a traced
/// process whose call was cancelled.
pub(super) const CANCELLED: u32 = u32::MAX;

/// A system call ABI of Linux that filters can be compiled for (OCI `architectures`, `SCMP_ARCH_*`).
///
/// All of them are little-endian, which the layout of argument checks relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Arch {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X86`: i386, which every x86_64 kernel may run beside the native ABI.
    X86,
    /// `SCMP_ARCH_X32`: x86_64 with 32-bit pointers. It shares the native arch word and is told apart by
    /// [`X32_BIT`] only, which is why forgetting it opens a way around deny rules.
    X32,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_ARM`: 32-bit EABI, which many aarch64 kernels run beside the native ABI.
    Arm,
}

impl Arch {
    /// The ABI that this library was built for.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NATIVE: Self = Self::X86_64;
    /// The ABI that this library was built for.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const NATIVE: Self = Self::Aarch64;

    /// The word in `seccomp_data.arch` (`AUDIT_ARCH_*` of linux/audit.h: ELF machine, 64-bit and
    /// little-endian bits).
    pub(super) const fn audit_word(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether a kernel whose native ABI is `native` can run calls of `self` at all.
    pub(super) const fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 | Self::X32 => matches!(self, Self::X86_64 | Self::X86 | Self::X32),
            Self::X86 => matches!(self, Self::X86),
            Self::Aarch64 => matches!(self, Self::Aarch64 | Self::Arm),
            Self::Arm => matches!(self, Self::Arm),
        }
    }

    /// Whether the kernel cuts arguments of this ABI to 32 bits. A 64-bit program that makes i386 calls by
    /// `int 0x80` can put anything in the upper halves: the filter sees them, the call does not. So checks
    /// must not look at them. (x32 passes full registers.)
    pub(super) const fn has_32bit_arguments(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// The numbers that belong to this ABI under its arch word.
    pub(super) const fn numbers(self) -> RangeInclusive<u32> {
        match self {
            Self::X86_64 => 0..=X32_BIT - 1,
            Self::X32 => X32_BIT..=CANCELLED - 1,
            Self::X86 | Self::Aarch64 | Self::Arm => 0..=CANCELLED - 1,
        }
    }
}
