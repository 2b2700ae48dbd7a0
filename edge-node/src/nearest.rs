//! "Did you mean …?"

/// The word nearest to `text`, when one is near enough to be what was meant: it begins with the text, or at most a
/// third of its letters differ.
#[must_use]
pub fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = words.into_iter().collect();
    let begun = words
        .iter()
        .filter(|word| lower.len() > 3 && word.to_lowercase().starts_with(&lower));
    if let Some(word) = begun.min_by_key(|word| word.len()) {
        return Some(word);
    }
    words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 1.max(word.chars().count() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// A remedy: the nearest word, or all there are.
#[must_use]
pub fn suggestion<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None if words.is_empty() => "nothing is known here; take it out".into(),
        None => format!("known are {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        assert_eq!(suggestion("nat67", ["nat44", "nat66"]), "did you mean `nat66`?");
        assert_eq!(suggestion("Netwerk", ["Node", "Network"]), "did you mean `Network`?");
        assert_eq!(suggestion("uplnks", ["uplinks", "siteId"]), "did you mean `uplinks`?");
        assert_eq!(suggestion("banana", ["uplinks", "siteId"]), "known are uplinks, siteId");
        assert_eq!(
            suggestion("hmac-sha256", ["hmac-sha1", "hmac-sha256-128"]),
            "did you mean `hmac-sha256-128`?"
        );
        assert_eq!(suggestion("siteID", ["siteId"]), "did you mean `siteId`?");
    }
}
