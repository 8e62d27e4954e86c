//! The texts of the files as read, and positions in them as people count: line and column from 1,
//! columns in characters.

use super::finding::Place;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path as given.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// All files of one configuration; the first is the main one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file and returns its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(Source {
            name: name.into(),
            text: text.into(),
        });
        number
    }

    /// The file with this number.
    #[must_use]
    pub fn get(&self, file: u32) -> Option<&Source> {
        self.0.get(usize::try_from(file).ok()?)
    }

    /// Every file in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// The length of the main file.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.get(0).map_or(0, |s| s.text.len())
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the file a place is in.
    #[must_use]
    pub fn name(&self, place: Place) -> &str {
        self.get(place.file).map_or("", |s| s.name.as_str())
    }

    /// Line and column of the start of a place.
    #[must_use]
    pub fn position(&self, place: Place) -> (usize, usize) {
        let text = self.get(place.file).map_or("", |s| s.text.as_str());
        position(text, place.start)
    }

    /// The text at a place.
    #[must_use]
    pub fn text(&self, place: Place) -> &str {
        self.get(place.file)
            .and_then(|s| s.text.get(place.range()))
            .unwrap_or("")
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or("");
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", "ü = 1\nbc = 2\n");
        for (offset, expected) in [
            (0, (1, 1)),
            (3, (1, 3)),
            (7, (2, 1)),
            (8, (2, 2)),
            (99, (3, 1)),
        ] {
            assert_eq!(sources.position(Place::new(file, offset..offset)), expected);
        }
        assert_eq!(
            sources.position(Place::new(file, 1..1)),
            (1, 1),
            "inside a character"
        );
        assert_eq!(sources.text(Place::new(file, 7..9)), "bc");
        assert_eq!(sources.text(Place::new(file, 1..2)), "");
        assert_eq!(sources.position(Place::new(9, 3..4)), (1, 1));
    }
}
