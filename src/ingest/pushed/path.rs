//! Grouping labels in a URL's path.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;

use super::super::PushError;
use crate::model::Labels;

/// URL-safe base64, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const SUFFIX: &str = "@base64";

/// The grouping labels of `job/NAME{/LABEL/VALUE}`, the part of a push's path behind `/metrics/`, still
/// percent-encoded. A name with `@base64` behind it has a value in URL-safe base64 (`=` stands for the empty one).
///
/// # Errors
/// When the job is missing or empty, a label has no value part or a bad name, or a value is no base64 of UTF-8.
pub fn group_labels(path: &str) -> Result<Labels, PushError> {
    let invalid = |message: String| PushError::Invalid(message);
    let path = path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid(format!("the path has a label without a value: {path:?}")));
    }
    let mut labels = Vec::with_capacity(pairs.len());
    for (i, [name, value]) in pairs.iter().enumerate() {
        let text = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded.map(String::from).map_err(|_| invalid(format!("the path is not valid UTF-8 in {part:?}")))
        };
        let (name, value) = (text(name)?, text(value)?);
        let (name, value) = match name.strip_suffix(SUFFIX) {
            None => (name, value),
            Some(name) => {
                let bytes = BASE64.decode(value.trim_end_matches('='));
                let bytes =
                    bytes.map_err(|e| invalid(format!("invalid base64 encoding in label {name:?}: {e}")))?;
                let value = String::from_utf8(bytes);
                let value =
                    value.map_err(|_| invalid(format!("the value of label {name:?} is not valid UTF-8")))?;
                (name.to_owned(), value)
            }
        };
        if i == 0 && name != "job" {
            return Err(invalid("the path must begin with job/".to_owned()));
        }
        if name.is_empty() || name.starts_with("__") {
            return Err(invalid(format!("improper label name {name:?}")));
        }
        if i == 0 && value.is_empty() {
            return Err(invalid("job name is required".to_owned()));
        }
        if i > 0 && name == "job" {
            return Err(invalid("the job is named twice".to_owned()));
        }
        labels.push((name, value));
    }
    Ok(Labels::from_pairs(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_the_group() {
        for (path, expected) in [
            ("job/some_job", r#"{job="some_job"}"#),
            ("job/some_job/instance/some_instance/", r#"{instance="some_instance", job="some_job"}"#),
            ("job/titan/name/%CE%A0%CF%81", r#"{job="titan", name="Πρ"}"#),
            ("job@base64/L3Zhci90bXA", r#"{job="/var/tmp"}"#),
            (
                "job/directory_cleaner/path@base64/L3Zhci90bXA=",
                r#"{job="directory_cleaner", path="/var/tmp"}"#,
            ),
            ("job/a/b@base64/=", r#"{job="a"}"#),
            ("job/a%2Fb", r#"{job="a/b"}"#),
        ] {
            assert_eq!(group_labels(path).unwrap().to_string(), expected, "{path}");
        }
        for path in [
            "",
            "job",
            "job/",
            "job/a/b",
            "instance/a/job/b",
            "job@base64/!!",
            "job/a/__b/c",
            "job@base64/=",
            "job/a/b@base64/_w",
        ] {
            assert!(group_labels(path).is_err(), "{path}");
        }
    }
}
