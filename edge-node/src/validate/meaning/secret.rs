//! Kind `Secret`.

use super::{Reader, exactly_one, text};
use crate::{document::Document, intent::SecretSource, kind::SecretSpec, tree::Path};

pub(super) fn read<'a>(reader: &mut Reader<'a>, document: &'a Document) {
    let Some(object) = reader.object::<SecretSpec>(document) else {
        return;
    };
    let SecretSpec {
        file,
        env,
        systemd_credential,
    } = object.spec;
    let spec = Path::parse("spec");
    let given = [
        ("file", file.is_some()),
        ("env", env.is_some()),
        ("systemdCredential", systemd_credential.is_some()),
    ];
    let field = match exactly_one(&given) {
        Ok(field) => field,
        Err(message) => {
            return reader.fail(
                document,
                &spec,
                message,
                "say where the credential is, once: {file: PATH}, {env: VARIABLE} or {systemdCredential: NAME}",
            );
        }
    };
    let value = file.or(env).or(systemd_credential).unwrap_or_default();
    let read = match field {
        "file" => text::path(&value, &document.source.base).map(SecretSource::File),
        "env" => text::variable(&value).map(SecretSource::Environment),
        _ => text::credential(&value).map(SecretSource::SystemdCredential),
    };
    match read {
        Ok(source) => {
            reader.intent.secrets.insert(document.name.clone(), source);
        }
        // What is no name may be the credential itself.
        Err(wrong) => reader
            .errors
            .push(document.credential_error(&spec.then(field), wrong.message, wrong.help)),
    }
}
