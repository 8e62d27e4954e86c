//! Reads Rust text well enough for the tidy rules: blanks out comments and literals, finds test
//! code, functions and inline modules. It is no parser; it relies on code that compiles.

/// What a mask keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only code: comments and the inside of literals become blanks.
    Code,
    /// Code and string literals: only comments become blanks.
    CodeAndStrings,
}

/// Replaces what is not kept by blanks; offsets and line ends stay where they are.
pub fn mask(text: &str, keep: Keep) -> String {
    let mut out = Masker {
        bytes: text.as_bytes(),
        out: Vec::with_capacity(text.len()),
        keep,
    };
    out.run();
    String::from_utf8(out.out).expect("masking keeps whole characters or blanks them bytewise")
}

struct Masker<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    keep: Keep,
}

impl Masker<'_> {
    fn at(&self, offset: usize) -> u8 {
        self.bytes
            .get(self.out.len() + offset)
            .copied()
            .unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.out.len()..]
    }

    fn copy(&mut self, count: usize) {
        let start = self.out.len();
        let end = (start + count).min(self.bytes.len());
        self.out.extend_from_slice(&self.bytes[start..end]);
    }

    fn blank(&mut self, count: usize) {
        let start = self.out.len();
        let end = (start + count).min(self.bytes.len());
        for &byte in &self.bytes[start..end] {
            self.out.push(if byte == b'\n' { b'\n' } else { b' ' });
        }
    }

    fn literal(&mut self, count: usize) {
        if self.keep == Keep::CodeAndStrings {
            self.copy(count);
        } else {
            self.blank(count);
        }
    }

    fn run(&mut self) {
        while self.out.len() < self.bytes.len() {
            let in_word = self
                .out
                .last()
                .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
            match (self.at(0), self.at(1)) {
                (b'/', b'/') => {
                    let end = self.rest().iter().position(|b| *b == b'\n');
                    self.blank(end.unwrap_or(self.rest().len()));
                }
                (b'/', b'*') => self.block_comment(),
                (b'"', _) => self.string(0),
                (b'r' | b'b' | b'c', _) if !in_word && self.prefix_len().is_some() => {
                    self.prefixed();
                }
                (b'\'', _) => self.quote(),
                _ => self.copy(1),
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_u32;
        loop {
            match (self.at(0), self.at(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.blank(2);
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                (0, _) if self.rest().is_empty() => return,
                _ => self.blank(1),
            }
        }
    }

    /// The length of `r`, `b`, `br`, `c`, `cr` with hashes, when a string follows.
    fn prefix_len(&self) -> Option<usize> {
        let rest = self.rest();
        let letters = rest
            .iter()
            .take(2)
            .take_while(|b| b"rbc".contains(b))
            .count();
        let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
        let raw = rest[..letters].contains(&b'r');
        (rest.get(letters + hashes) == Some(&b'"') && (hashes == 0 || raw))
            .then_some(letters + hashes)
    }

    fn prefixed(&mut self) {
        let Some(len) = self.prefix_len() else { return };
        let prefix = self.rest()[..len].to_vec();
        self.copy(len);
        if prefix.contains(&b'r') {
            let hashes = prefix.iter().filter(|b| **b == b'#').count();
            let mut close = vec![b'"'];
            close.resize(hashes + 1, b'#');
            self.copy(1);
            let inside = self.rest().windows(close.len()).position(|w| w == close);
            self.literal(inside.unwrap_or(self.rest().len()));
            self.copy(close.len());
        } else {
            self.string(0);
        }
    }

    fn string(&mut self, prefix: usize) {
        self.copy(prefix + 1);
        loop {
            match self.at(0) {
                b'"' => return self.copy(1),
                b'\\' => self.literal(2),
                0 if self.rest().is_empty() => return,
                _ => self.literal(1),
            }
        }
    }

    /// A character literal is blanked; a lifetime is code.
    fn quote(&mut self) {
        let rest = self.rest();
        let len = if rest.get(1) == Some(&b'\\') {
            rest.iter().skip(3).position(|b| *b == b'\'').map(|p| p + 4)
        } else {
            let width = std::str::from_utf8(rest.get(1..).unwrap_or_default())
                .ok()
                .and_then(|s| s.chars().next())
                .map_or(1, char::len_utf8);
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        };
        match len {
            Some(len) => self.blank(len),
            None => self.copy(1),
        }
    }
}

/// The offset behind the brace that closes the one at `open`.
pub fn close_of(masked: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in masked.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    masked.len()
}

/// The line (from 1) of an offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
        + 1
}

/// The words (identifiers and keywords) of masked text with their offsets.
pub fn words(masked: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = None;
    for (offset, byte) in masked.bytes().chain([b' ']).enumerate() {
        let inside = byte.is_ascii_alphanumeric() || byte == b'_';
        match (inside, start) {
            (true, None) => start = Some(offset),
            (false, Some(from)) => {
                found.push((from, &masked[from..offset]));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// The end of the item that starts at `from` (behind its attributes): its closing brace, or `;`.
fn item_end(masked: &str, from: usize) -> usize {
    let mut round = 0_i32;
    for (offset, byte) in masked.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' if round == 0 => return close_of(masked, offset),
            b';' if round == 0 => return offset + 1,
            _ => {}
        }
    }
    masked.len()
}

/// Byte ranges of items under `#[cfg(test)]` or `#[cfg(all(test, ...))]`, and of `#[test]` functions.
pub fn test_ranges(masked: &str) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for marker in ["#[cfg(test)]", "#[cfg(all(test", "#[test]"] {
        for (start, _) in masked.match_indices(marker) {
            let mut from = start;
            // skip this attribute and the ones that follow it
            while masked[from..].starts_with("#[") {
                let close = attribute_end(masked, from);
                from = close + masked[close..].len() - masked[close..].trim_start().len();
            }
            found.push(start..item_end(masked, from));
        }
    }
    found
}

fn attribute_end(masked: &str, from: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, byte) in masked.bytes().enumerate().skip(from) {
        match byte {
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    masked.len()
}

/// Name, first and last line of every function with a body.
pub fn functions(masked: &str) -> Vec<(String, usize, usize)> {
    let words = words(masked);
    let mut found = Vec::new();
    for pair in words.windows(2) {
        let [(at, "fn"), (name_at, name)] = pair else {
            continue;
        };
        // `fn(` is a type, not a function: then the next word does not follow directly
        if masked[at + 2..*name_at].trim() != "" {
            continue;
        }
        let mut round = 0_i32;
        for (offset, byte) in masked.bytes().enumerate().skip(*name_at) {
            match byte {
                b'(' | b'[' => round += 1,
                b')' | b']' => round -= 1,
                b';' if round == 0 => break,
                b'{' if round == 0 => {
                    let last = line_of(masked, close_of(masked, offset).saturating_sub(1));
                    found.push(((*name).to_owned(), line_of(masked, *at), last));
                    break;
                }
                _ => {}
            }
        }
    }
    found
}

/// How many inline modules (`mod x { ... }`) stand around an offset.
pub fn inline_depth(masked: &str, offset: usize) -> usize {
    let words = words(&masked[..offset]);
    let mut depth = 0;
    for pair in words.windows(2) {
        let [(_, "mod"), (at, name)] = pair else {
            continue;
        };
        let behind = at + name.len();
        let gap = masked[behind..].len() - masked[behind..].trim_start().len();
        let open = behind + gap;
        if masked.as_bytes().get(open) == Some(&b'{') && close_of(masked, open) > offset {
            depth += 1;
        }
    }
    depth
}

/// The first path segments behind `crate::` and behind `super::` chains that leave the top module.
///
/// `module` is the module path of the file, such as `["http", "h1"]`. Yields offset and name.
pub fn crate_uses(masked: &str, module: &[String]) -> Vec<(usize, String)> {
    let all = words(masked);
    let mut found = Vec::new();
    let mut index = 0;
    while index < all.len() {
        let (at, word) = all[index];
        let mut end = at + word.len();
        if word == "crate" && masked[end..].starts_with("::") {
            heads(masked, end + 2, &mut found);
        } else if word == "super" && masked[end..].starts_with("::") {
            let mut ups = 1;
            while let Some((next, "super")) = all.get(index + 1).copied() {
                if next != end + 2 {
                    break;
                }
                index += 1;
                ups += 1;
                end = next + "super".len();
            }
            if masked[end..].starts_with("::") && module.len() + inline_depth(masked, at) == ups {
                heads(masked, end + 2, &mut found);
            }
        }
        index += 1;
    }
    found
}

/// The first segments at `from`: one word, or the words that start the entries of a brace group.
fn heads(masked: &str, from: usize, found: &mut Vec<(usize, String)>) {
    let text = &masked[from..];
    if !text.starts_with('{') {
        if let Some((0, word)) = words(first_line_part(text)).first() {
            found.push((from, (*word).to_owned()));
        }
        return;
    }
    let end = close_of(masked, from);
    let mut depth = 0_i32;
    let mut fresh = true;
    let group = &masked[from..end];
    let starts: Vec<(usize, &str)> = words(group);
    for (offset, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => {
                depth += 1;
                fresh = depth == 1;
            }
            b'}' => depth -= 1,
            b',' if depth == 1 => fresh = true,
            _ if fresh && depth == 1 => {
                if let Some((_, word)) = starts.iter().find(|(at, _)| *at == offset) {
                    found.push((from + offset, (*word).to_owned()));
                    fresh = false;
                }
            }
            _ => {}
        }
    }
}

fn first_line_part(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
