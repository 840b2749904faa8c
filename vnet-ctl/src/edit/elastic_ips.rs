//! Elastic IPs: associated with a port, taken from it.

use std::net::IpAddr;

use toml_edit::{InlineTable, Value};

use super::{
    EditError, Setting, checked,
    document::{Document, Section},
    entry::Entry,
    no_such, read, unforeseen,
};
use crate::policy::{Mistake, OnChange};

/// Lets `addr` stand for `port`, whether or not it stood for another until now. An address that the file does
/// not have yet is put behind the others.
///
/// # Errors
/// When there is no such port, or it makes no sense.
pub fn associate(
    text: &str,
    addr: IpAddr,
    port: &str,
    on_change: Setting<OnChange>,
) -> Result<String, EditError> {
    let policy = read(text)?;
    if !policy.ports.contains_key(port) {
        let help = "`vnet-ctl port list` shows them; ports of runtimes cannot have an elastic IP";
        return Err(no_such("port", port, policy.ports.keys(), help));
    }
    let on_change = match on_change {
        Setting::Set(word) => Setting::Set(word.to_string()),
        Setting::Keep | Setting::Unset => Setting::Keep,
    };
    let port = Setting::Set(port.to_owned());
    let fill = |entry: &mut Entry<'_>| {
        entry.apply("port", &port);
        entry.apply("on_change", &on_change);
    };
    let mut document = Document::read(text)?;
    if let Some(key) = document.key_of(addr) {
        let entry = document.entry(Section::ElasticIps, &key);
        fill(&mut entry.ok_or_else(|| unforeseen("the elastic IP cannot be found"))?);
        return checked(document);
    }
    match document.elastic_ips() {
        Some(mut elastic_ips) => {
            let settings = [("port", &port), ("on_change", &on_change)];
            let given = settings.into_iter().filter_map(|(key, setting)| match setting {
                Setting::Set(word) => Some((key.to_owned(), Value::from(word.as_str()))),
                Setting::Keep | Setting::Unset => None,
            });
            elastic_ips.set(&addr.to_string(), Value::InlineTable(given.collect::<InlineTable>()));
        }
        None => document.create(Section::ElasticIps, &addr.to_string(), fill)?,
    }
    checked(document)
}

/// Takes the elastic IP `addr` out, with the comment directly above it; gives the new text and the port that it
/// stood for.
///
/// # Errors
/// When there is none.
pub fn disassociate(text: &str, addr: IpAddr) -> Result<(String, String), EditError> {
    let policy = read(text)?;
    let mut document = Document::read(text)?;
    let (Some(elastic_ip), Some(key)) = (policy.elastic_ips.get(&addr), document.key_of(addr)) else {
        let mistake = Mistake::new(format!("there is no elastic IP {addr}"));
        return Err(EditError::NotFound(mistake.help("`vnet-ctl eip list` shows those that there are")));
    };
    document.delete_elastic_ip(&key);
    Ok((checked(document)?, elastic_ip.port.clone()))
}
