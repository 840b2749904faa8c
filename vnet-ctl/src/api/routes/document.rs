//! The OpenAPI document: made from the types and the handlers, kept as `docs/openapi.json` too.

use std::sync::LazyLock;

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, OpenApi as Document, Ref, ResponseBuilder, Server, path::Operation, response::Responses,
    },
};

use super::{drops, events, flows, ipam, networks, policy, ports, progress, status, translation};
use crate::api::types::ApiError;

/// What the daemon answers with, made once.
static DOCUMENT: LazyLock<Document> = LazyLock::new(Api::openapi);

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "daemon",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object)))]
pub(super) async fn show() -> Json<&'static Document> {
    Json(&DOCUMENT)
}

/// What stands at the head of the document.
const DESCRIPTION: &str = "\
vnet's API: HTTP/1.1 with JSON on a Unix socket, /run/vnet/vnet.sock unless the daemon was told otherwise.

For example: `curl --unix-socket /run/vnet/vnet.sock http://vnet/v1/status`

Root and the group `vnet` may ask and change things; others may ask if the daemon was started with `--read-group`. \
The kernel tells who connects; nothing else identifies a client. A field that the daemon does not know is an error in \
a request; clients ignore those that they do not know in an answer. Within /v1, fields and paths are only ever added. \
What is no HTTP at all is answered with a status and no body.";

#[derive(OpenApi)]
#[openapi(
    info(title = "vnet", license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"), contact()),
    paths(
        show,
        status::show,
        status::shutdown,
        policy::show,
        policy::apply,
        policy::confirm,
        policy::rollback,
        policy::diff,
        networks::list,
        translation::forwards,
        translation::elastic_ips,
        ports::list,
        ports::put,
        ports::delete,
        ports::stats,
        ipam::show,
        ipam::check,
        ipam::release,
        drops::show,
        events::list,
        progress::show,
        flows::list,
        flows::flush,
    ),
    components(schemas(ApiError)),
    tags(
        (name = "policy", description = "What is to hold: people declare it in the policy file"),
        (name = "ports", description = "The workloads' network cards"),
        (name = "networks", description = "Segments with their subnets, and what leads into them"),
        (name = "flows", description = "What passes, and what is dropped"),
        (name = "daemon", description = "The daemon itself")
    ),
    modifiers(&Common)
)]
struct Api;

/// What the operations have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        document.info.description = Some(DESCRIPTION.to_owned());
        let mut server = Server::new("http://vnet");
        server.description = Some("Any host name will do: the socket is what counts".to_owned());
        document.servers = Some(vec![server]);
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in [
                ("get", &mut item.get),
                ("post", &mut item.post),
                ("put", &mut item.put),
                ("delete", &mut item.delete),
            ] {
                if let Some(operation) = operation {
                    operation.operation_id = Some(operation_id(method, path));
                    add_errors(operation, method != "get");
                }
            }
        }
    }
}

/// For example `getPortsStats`, for programs that are generated from the document.
fn operation_id(method: &str, path: &str) -> String {
    let named = path.split(['/', '.']).filter(|part| !part.is_empty() && *part != "v1" && *part != "json");
    let words = named.map(|part| match part.strip_prefix('{') {
        Some(name) => format!("By{}", capitalised(name.trim_end_matches('}'))),
        None => capitalised(part),
    });
    words.fold(method.to_owned(), |id, word| id + &word)
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
    first.to_uppercase() + rest
}

fn add_errors(operation: &mut Operation, changes: bool) {
    let has_body = operation.request_body.is_some();
    let has_query = operation.parameters.is_some();
    let refused = if changes {
        "Only root and the group of the socket may change things"
    } else {
        "Neither asking nor changing is allowed"
    };
    let errors = [
        (has_body || has_query, "400", "The request is not well formed"),
        (true, "403", refused),
        (has_body, "408", "The body has not arrived within 30 seconds"),
        (has_body, "413", "The body is too long: 16 MiB with a policy in it, 64 KiB else"),
        (has_body, "415", "The body is not called `application/json`"),
        (has_body, "422", "The body is JSON, but not what is described here"),
        (true, "429", "Too many requests of one user; `retry-after` tells the seconds to wait"),
        (true, "500", "It failed; what was done is undone, or the error tells what is left"),
        (true, "503", "Too many connections, or the daemon is ending"),
    ];
    for (_, status, words) in errors.into_iter().filter(|(applies, ..)| *applies) {
        add(&mut operation.responses, status, words);
    }
}

/// Unless the operation has words of its own for it.
fn add(responses: &mut Responses, status: &str, words: &str) {
    let response = || {
        let content = Content::new(Some(Ref::from_schema_name("ApiError")));
        ResponseBuilder::new().description(words).content("application/json", content).build().into()
    };
    responses.responses.entry(status.to_owned()).or_insert_with(response);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::to_value(&*DOCUMENT).unwrap()
    }

    #[test]
    fn every_path_is_described_and_nothing_else_is() {
        let routed: BTreeSet<_> = super::super::routes()
            .iter()
            .map(|route| (route.path.to_owned(), route.method.to_string()))
            .collect();
        let document = document();
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_operation_says_what_it_does_and_how_it_fails() {
        for (path, item) in document()["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(
                    operation["summary"].as_str().is_some_and(|text| !text.contains("/v1")),
                    "{method} {path}"
                );
                assert!(operation["responses"]["403"].is_object(), "{method} {path}");
                assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own() {
        let mut ids = BTreeSet::new();
        for item in document()["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(ids.insert(id.clone()), "{id} twice");
            }
        }
        assert!(ids.contains("getPortsByNameStats") && ids.contains("getOpenapi"), "{ids:?}");
    }

    #[test]
    fn every_schema_and_field_is_described() {
        for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}");
            for (field, of) in schema["properties"].as_object().into_iter().flatten() {
                let words = of.to_string();
                let described = words.contains("\"description\"") || words.contains("\"$ref\"");
                assert!(described, "{name}.{field}: {of}");
            }
        }
    }

    #[test]
    fn nothing_is_referred_to_that_is_not_there() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    /// `VNET_UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_document_among_the_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&*DOCUMENT).unwrap());
        if std::env::var_os("VNET_UPDATE_DOCS").is_some() {
            fs::write(path, &text).unwrap();
        }
        let kept = fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == text,
            "docs/openapi.json is old: VNET_UPDATE_DOCS=1 cargo test -p vnet-ctl --lib document"
        );
    }
}
