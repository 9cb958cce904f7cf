//! The words for statements that would change how the server reads text.

/// Why a command that changes `setting` is denied whatever policies say: the text that follows could be
/// another statement than it seems. `?` stands for a setting whose name is not known.
pub(crate) fn altered_reading(setting: &str) -> Box<str> {
    match setting {
        "?" => "which setting it will change can't be told, and some decide how statements are read".into(),
        setting => format!("{setting} decides how statements are read, and may not be changed").into(),
    }
}
