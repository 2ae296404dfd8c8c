//! The compiler is proven against an evaluator that takes the model word by word, the default profile against
//! what it promises, and the program against the kernel.

mod compile;
mod custom;
mod defaults;
mod document;
mod evaluate;
mod interpret;
mod kernel;
mod random;
mod syscalls;

/// `struct seccomp_data`, what a filter sees of a call (without the instruction pointer, which ours never read).
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    number: u32,
    arch_word: u32,
    args: [u64; 6],
}
