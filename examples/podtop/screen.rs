//! The terminal: raw keys and the alternate screen, both given back however the program ends.

use std::io::{self, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::table::Order;

/// What keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Sort(Order),
    Up,
    Down,
    Freeze,
    Stop,
    Quit,
}

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Given back when it is dropped: at the end, after an error, and when a panic unwinds.
pub struct Screen {
    before: Termios,
}

impl Screen {
    pub fn open() -> io::Result<Screen> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let screen = Screen { before };
        print(ENTER)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// The keys that were pressed; the end of the input is `Quit`.
    pub fn keys(&self) -> io::Result<Vec<Key>> {
        let mut buffer = [0; 64];
        let length = match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => return Ok(vec![Key::Quit]),
            Ok(length) => length,
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut keys = Vec::new();
        let mut rest = &buffer[..length];
        while let Some((first, tail)) = rest.split_first() {
            let (key, after) = match (first, tail) {
                (0x1b, [b'[' | b'O', b'A', after @ ..]) => (Some(Key::Up), after),
                (0x1b, [b'[' | b'O', b'B', after @ ..]) => (Some(Key::Down), after),
                // Another key that is more than one byte.
                (0x1b, [_, ..]) => (None, &[][..]),
                (byte, after) => (meaning(*byte), after),
            };
            keys.extend(key);
            rest = after;
        }
        Ok(keys)
    }

    /// Shows the lines as far as there is room: the first two always, of the others those around line `chosen`.
    pub fn draw(
        &self,
        lines: &[String],
        chosen: Option<usize>,
        foot: &str,
        (width, height): (usize, usize),
    ) -> io::Result<()> {
        const HEAD: usize = 2;
        let room = height.saturating_sub(HEAD + 1).max(1);
        let chosen = chosen.map(|line| line + HEAD - 1);
        let first = chosen.map_or(HEAD, |line| line.saturating_sub(room - 1).max(HEAD));
        let mut text = String::from("\x1b[H");
        let shown =
            lines.iter().enumerate().filter(|(at, _)| *at < HEAD || (first..first + room).contains(at));
        for (at, line) in shown {
            let (on, off) = match at {
                _ if chosen == Some(at) => ("\x1b[7m", "\x1b[0m"),
                1 => ("\x1b[1m", "\x1b[0m"),
                _ => ("", ""),
            };
            text += &format!("{on}{line}{off}\x1b[K\r\n");
        }
        let foot: String = foot.chars().filter(|c| !c.is_control()).take(width.saturating_sub(1)).collect();
        text += &format!("\x1b[J\x1b[{height};1H{foot}\x1b[K");
        print(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = print(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn meaning(byte: u8) -> Option<Key> {
    Some(match byte {
        b'c' => Key::Sort(Order::Cpu),
        b'm' => Key::Sort(Order::Memory),
        b'w' => Key::Sort(Order::Waiting),
        b'p' => Key::Sort(Order::Pids),
        b'a' => Key::Sort(Order::Age),
        b'n' => Key::Sort(Order::Name),
        b'j' => Key::Down,
        b'k' => Key::Up,
        b'f' => Key::Freeze,
        b's' => Key::Stop,
        // Ctrl-C and Ctrl-D are keys while the terminal is raw.
        b'q' | 3 | 4 => Key::Quit,
        _ => return None,
    })
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
