//! The labels of a target beside those of its body.

use std::borrow::Cow;

use crate::model::Labels;

/// Adds a target's labels to sorted pairs. A label that both have is the body's if it is honored; otherwise the
/// body's moves to the first free name among `exported_…`, shorter names first.
pub(super) fn add_target_labels<'a>(
    pairs: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    target_labels: &'a Labels,
    honor_labels: bool,
) {
    let mut renamed: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
    for (name, value) in target_labels {
        match pairs.iter_mut().find(|(n, _)| n == name) {
            // An empty label in the body, too, keeps the target's away.
            Some(_) if honor_labels => {}
            Some(pair) => {
                let body = std::mem::replace(&mut pair.1, Cow::Borrowed(value));
                if !body.is_empty() {
                    renamed.push((Cow::Borrowed(name), body));
                }
            }
            None => pairs.push((Cow::Borrowed(name), Cow::Borrowed(value))),
        }
    }
    renamed.sort_by_key(|(name, _)| name.len());
    for (name, value) in renamed {
        let mut name = name.into_owned();
        loop {
            name.insert_str(0, "exported_");
            match pairs.iter_mut().find(|(n, _)| *n == name) {
                Some(pair) if pair.1.is_empty() => {
                    pair.1 = value;
                    break;
                }
                Some(_) => {}
                None => {
                    pairs.push((Cow::Owned(name), value));
                    break;
                }
            }
        }
    }
}
