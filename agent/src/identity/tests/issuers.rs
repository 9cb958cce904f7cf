//! Issuers' keys: rotated ones, floods of unknown ones, and issuers that are down, slow or dishonest.

use super::{
    server::{Answer, Server},
    *,
};

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A stand-in for an issuer that publishes the provider's keys, and a token from that issuer.
async fn stand_in() -> (Server, String) {
    let server = Server::issuer(provider().jwks().await).await;
    let token = mint(&server, json!({})).await;
    (server, token)
}

/// A token from `server` as its issuer, signed by the provider. `header` changes the token's header.
async fn mint(server: &Server, header: Value) -> String {
    provider().mint(json!({"claims": claims(&server.url, json!({})), "header": header})).await
}

/// Checks that a token is refused for want of its issuer's keys, which `reason` explains. `more` is further
/// configuration of the issuer.
async fn check_no_keys(server: &Server, more: &str, token: &str, reason: &str) {
    let refused = format!("the keys of issuer `lab` are not available: {reason}");
    check(&verifier(&server.url, more), token, NOW, Err(&refused)).await;
}

#[tokio::test]
async fn keys_that_were_rotated_are_fetched_and_withdrawn_ones_are_dropped() {
    let provider = Provider::start(&[]);
    let verifier = verifier(&provider.issuer, "");
    let order = || json!({"claims": claims(&provider.issuer, json!({}))});
    let first = provider.mint(order()).await;
    check(&verifier, &first, NOW, Ok(())).await;

    provider.rotate(true).await;
    let second = provider.mint(order()).await;
    let unknown = |asked_s: u32| {
        format!(
            "the token is signed with a key that issuer `lab` does not publish (its keys were last asked for \
             {asked_s} s ago)"
        )
    };
    check(&verifier, &second, NOW + 9, Err(&unknown(9))).await;
    check(&verifier, &second, NOW + 10, Ok(())).await;
    check(&verifier, &first, NOW + 10, Ok(())).await;

    provider.rotate(false).await;
    let third = provider.mint(order()).await;
    check(&verifier, &third, NOW + 20, Ok(())).await;
    check(&verifier, &second, NOW + 20, Err(&unknown(0))).await;
    check(&verifier, &first, NOW + 30, Err(&unknown(0))).await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_request_and_delays_nobody() {
    let (server, good) = stand_in().await;
    let verifier = verifier(&server.url, "");
    let mut flood = Vec::new();
    for n in 0..20 {
        flood.push(mint(&server, json!({"kid": format!("made-up-{n}")})).await);
    }
    for (second, asked) in [(0, 1), (1, 1), (9, 1), (10, 2), (19, 2), (20, 3)] {
        let mut verified = Vec::new();
        for token in &flood {
            verified.push(verify(&verifier, token, NOW + second));
        }
        let (refused, good) = tokio::join!(join_all(verified), verify(&verifier, &good, NOW + second));
        assert!(good.is_ok(), "{good:?}");
        for refused in refused {
            let refused = refused.unwrap_err();
            assert!(refused.contains("does not publish"), "{refused}");
        }
        assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (asked, asked), "after {second} s");
    }
}

/// Runs futures concurrently.
async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_token_that_is_refused_without_keys_causes_no_request() {
    let (server, _) = stand_in().await;
    let verifier = verifier(&server.url, "");
    let token = provider().mint(json!({"claims": claims(&server.url, json!({"aud": "other"}))})).await;
    let refused = "the token is for audience other, this host expects lineal alone";
    check(&verifier, &token, NOW, Err(refused)).await;
    assert_eq!(server.asked(DISCOVERY), 0);
}

#[tokio::test]
async fn kept_keys_are_used_without_a_request_until_their_time_is_up() {
    let (server, token) = stand_in().await;
    let verifier = verifier(&server.url, "keys_ttl_s = 100");
    for (second, asked) in [(0, 1), (99, 1), (100, 2), (199, 2)] {
        check(&verifier, &token, NOW + second, Ok(())).await;
        assert_eq!(server.asked("/jwks"), asked, "after {second} s");
    }
    // After the clock was set back, the keys' age is unknown.
    check(&verifier, &token, NOW, Ok(())).await;
    assert_eq!(server.asked("/jwks"), 3);
}

#[tokio::test]
async fn keys_outlast_a_short_outage_of_their_issuer_but_not_a_long_one() {
    let (server, _) = stand_in().await;
    let claims = claims(&server.url, json!({"exp": NOW + 90_000}));
    let token = provider().mint(json!({"claims": claims})).await;
    let verifier = verifier(&server.url, "keys_ttl_s = 100");
    check(&verifier, &token, NOW, Ok(())).await;
    server.answer(
        "/jwks",
        Answer::Raw("HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()),
    );
    check(&verifier, &token, NOW + 100, Ok(())).await;
    check(&verifier, &token, NOW + 101, Ok(())).await;
    assert_eq!(server.asked("/jwks"), 2);
    check(&verifier, &token, NOW + 3699, Ok(())).await;
    let down = format!(
        "the keys of issuer `lab` are not available: {}/jwks: it answered with status 503",
        server.url
    );
    check(&verifier, &token, NOW + 3709, Err(&down)).await;
    // The same error, without another request.
    check(&verifier, &token, NOW + 3710, Err(&down)).await;
    assert_eq!(server.asked("/jwks"), 4);
}

#[tokio::test]
async fn an_issuer_that_recovers_is_asked_again() {
    let (server, token) = stand_in().await;
    let keys = provider().jwks().await;
    server.answer("/jwks", Answer::Json("nonsense".to_owned()));
    let verifier = verifier(&server.url, "");
    let nonsense =
        format!("the keys of issuer `lab` are not available: {}/jwks is not a JSON Web Key Set", server.url);
    check(&verifier, &token, NOW, Err(&nonsense)).await;
    server.answer("/jwks", Answer::Json(keys));
    check(&verifier, &token, NOW + 9, Err(&nonsense)).await;
    check(&verifier, &token, NOW + 10, Ok(())).await;
}

#[tokio::test]
async fn an_unreachable_issuer_is_named_with_the_reason() {
    let (server, token) = stand_in().await;
    let url = server.url.clone();
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    server.discovery(&url, &format!("http://{address}/jwks"));
    let reason = format!("http://{address}/jwks: it can't be reached (Connection refused (os error 111))");
    check_no_keys(&server, "", &token, &reason).await;
}

#[tokio::test]
async fn a_slow_issuer_is_given_up_after_the_timeout() {
    let (server, token) = stand_in().await;
    server.answer(DISCOVERY, Answer::Silence);
    let reason = format!("{}{DISCOVERY}: no answer within 1 s", server.url);
    check_no_keys(&server, "http_timeout_s = 1", &token, &reason).await;
    // The timeout is for the whole answer: an endless body does not prolong it.
    let trickle = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
    let (server, token) = stand_in().await;
    server.answer(DISCOVERY, Answer::Raw(trickle.to_owned()));
    let refused = verify(&verifier(&server.url, "http_timeout_s = 1"), &token, NOW).await.unwrap_err();
    assert!(refused.starts_with("the keys of issuer `lab` are not available"), "{refused}");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_abort_the_request_that_others_wait_for() {
    let (server, token) = stand_in().await;
    let verifier = verifier(&server.url, "");
    let owned = Token::new(token.clone());
    {
        let mut gone = Box::pin(verifier.verify(&owned, NOW));
        let first_poll = std::future::poll_fn(|context| std::task::Poll::Ready(gone.as_mut().poll(context)));
        assert!(first_poll.await.is_pending());
    }
    check(&verifier, &token, NOW, Ok(())).await;
    assert_eq!(server.asked("/jwks"), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, token) = stand_in().await;
    let redirect = |to: &str| {
        Answer::Raw(format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    };
    server.answer("/jwks", redirect("/moved"));
    server.answer("/moved", Answer::Json(provider().jwks().await));
    let status = "it answered with a redirect (status 302), which is not followed; configure the final URL";
    check_no_keys(&server, "", &token, &format!("{}/jwks: {status}", server.url)).await;
    server.answer(DISCOVERY, redirect("/moved"));
    check_no_keys(&server, "", &token, &format!("{}{DISCOVERY}: {status}", server.url)).await;
    assert_eq!(server.asked("/moved"), 0);
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let (server, token) = stand_in().await;
    for other in ["https://other.example".to_owned(), format!("{}/", server.url)] {
        server.discovery(&other, &format!("{}/jwks", server.url));
        let reason =
            format!("the discovery document says that its issuer is {other}, configured is {}", server.url);
        check_no_keys(&server, "", &token, &reason).await;
    }
    assert_eq!(server.asked("/jwks"), 0);
}

#[tokio::test]
async fn a_discovery_document_cannot_send_the_agent_to_plain_http() {
    let (server, token) = stand_in().await;
    for uri in ["http://keys.example/jwks", "http://localhost/jwks", "file:///etc/passwd"] {
        server.discovery(&server.url, uri);
        check_no_keys(
            &server,
            "",
            &token,
            &format!("the discovery document's jwks_uri {uri} is not an https URL"),
        )
        .await;
    }
}

#[tokio::test]
async fn answers_that_are_too_large_or_not_keys_are_refused() {
    let (server, token) = stand_in().await;
    let url = &server.url;
    let large = format!("{{\"keys\": \"{}\"}}", "x".repeat(1024 * 1024));
    server.answer("/jwks", Answer::Json(large));
    check_no_keys(&server, "", &token, &format!("{url}/jwks: its answer has more than 1048576 bytes")).await;
    server.answer("/jwks", Answer::Json(r#"{"keys": []}"#.to_owned()));
    check_no_keys(&server, "", &token, &format!("{url}/jwks holds 0 usable keys, expected are 1 to 64"))
        .await;
    // A key of an unknown type is not a usable one.
    server.answer("/jwks", Answer::Json(r#"{"keys": [{"kty": "made-up"}]}"#.to_owned()));
    check_no_keys(&server, "", &token, &format!("{url}/jwks holds 0 usable keys, expected are 1 to 64"))
        .await;
    let key: Value = serde_json::from_str(&provider().jwks().await).unwrap();
    let many = json!({"keys": vec![key["keys"][0].clone(); 65]});
    server.answer("/jwks", Answer::Json(many.to_string()));
    check_no_keys(&server, "", &token, &format!("{url}/jwks holds 65 usable keys, expected are 1 to 64"))
        .await;
    server.answer(DISCOVERY, Answer::Json("{}".to_owned()));
    let reason = format!("{url}{DISCOVERY} is not a discovery document with `issuer` and `jwks_uri`");
    check_no_keys(&server, "", &token, &reason).await;
}

#[tokio::test]
async fn a_token_that_names_no_key_is_verified_if_only_one_key_could_have_signed_it() {
    let (server, _) = stand_in().await;
    let token = mint(&server, json!({"kid": null})).await;
    check(&verifier(&server.url, ""), &token, NOW, Ok(())).await;
    let keys: Value = serde_json::from_str(&provider().jwks().await).unwrap();
    let rs256 = &keys["keys"][0];
    let mut twin = rs256.clone();
    twin["kid"] = json!("twin");
    server.answer("/jwks", Answer::Json(json!({"keys": [rs256, twin]}).to_string()));
    let refused = "the token does not say which of the keys of issuer `lab` signed it";
    check(&verifier(&server.url, ""), &token, NOW, Err(refused)).await;
}

#[tokio::test]
async fn an_https_issuer_must_be_certified_by_the_configured_authority() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start_tls(folder.path());
    assert!(provider.issuer.starts_with("https://"), "{}", provider.issuer);
    let token = provider.mint(json!({"claims": claims(&provider.issuer, json!({}))})).await;
    let ca_file = format!("ca_file = \"{}\"", folder.path().join("ca.pem").display());
    check(&verifier(&provider.issuer, &ca_file), &token, NOW, Ok(())).await;
    // Neither the public authorities nor another private one vouch for it.
    let other = tempfile::tempdir().unwrap();
    let _other = Provider::start_tls(other.path());
    let other = format!("ca_file = \"{}\"", other.path().join("ca.pem").display());
    for more in ["", &other] {
        let refused = verify(&verifier(&provider.issuer, more), &token, NOW).await.unwrap_err();
        assert!(refused.contains("it can't be reached (invalid peer certificate: "), "{more}: {refused}");
    }
}

#[tokio::test]
async fn keys_from_a_file_cause_no_request() {
    let (server, token) = stand_in().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let more = format!("jwks_file = \"{}\"", file.path().display());
    let empty = format!("{} is not a JSON Web Key Set", file.path().display());
    check_no_keys(&server, &more, &token, &empty).await;
    std::fs::write(file.path(), provider().jwks().await).unwrap();
    check(&verifier(&server.url, &more), &token, NOW, Ok(())).await;
    let missing = "/nonexistent/jwks.json can't be read: No such file or directory (os error 2)";
    check_no_keys(&server, "jwks_file = \"/nonexistent/jwks.json\"", &token, missing).await;
    assert_eq!(server.asked(DISCOVERY), 0);
}

#[tokio::test]
async fn keys_can_come_from_a_configured_url_that_requires_a_bearer_token() {
    let (server, token) = stand_in().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the-agents-own-token\n").unwrap();
    let keys = provider().jwks().await;
    server.answer("/openid/v1/jwks", Answer::IfAuthorized("Bearer the-agents-own-token", keys));
    let uri = format!("jwks_uri = \"{}/openid/v1/jwks\"\n", server.url);
    let more = format!("{uri}bearer_file = \"{}\"", file.path().display());
    check(&verifier(&server.url, &more), &token, NOW, Ok(())).await;
    check_no_keys(
        &server,
        &uri,
        &token,
        &format!("{}/openid/v1/jwks: it answered with status 401", server.url),
    )
    .await;
    assert_eq!(server.asked(DISCOVERY), 0);
}
