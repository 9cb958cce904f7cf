//! Which tokens are accepted: of an honest issuer, of a forger, and of a thief.

use agent_core::identity::replay::{Admitted, Enroller, UseTable};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

/// Has the provider mint a token, with its claims changed and whatever else `order` says, and verifies it at
/// `NOW`.
async fn check_order(changes: Value, order: Value, expect: Result<(), &str>) {
    check_order_at(changes, order, NOW, expect).await;
}

async fn check_order_at(changes: Value, mut order: Value, now_unix: i64, expect: Result<(), &str>) {
    let provider = provider();
    order["claims"] = claims(&provider.issuer, changes);
    let token = provider.mint(order.clone()).await;
    let verified = verify(&verifier(&provider.issuer, ""), &token, now_unix).await;
    assert_eq!(verified.map(|_| ()), expect.map_err(str::to_owned), "{order}");
}

fn expired(ago_s: i64) -> String {
    format!("the token expired {ago_s} s ago; request a new one for this job")
}

fn clock_unix() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

#[tokio::test]
async fn a_ci_job_s_token_becomes_its_credential() {
    let provider = provider();
    let token = provider.token("nightly").await;
    let rule = "[[issuer.group]]\ngroup = \"shop\"\nclaims = { repository = \"acme/*\" }\n";
    let verified = verify(&verifier(&provider.issuer, rule), &token, clock_unix()).await.unwrap();
    let credential = &verified.credential;
    assert_eq!(credential.issuer, provider.issuer);
    assert_eq!(credential.subject, "contractor:dana");
    assert_eq!(credential.groups, ["contractors", "shop"]);
    for (claim, text) in [
        ("repository", "acme/shop"),
        ("job", "nightly"),
        ("run_attempt", "1"),
        ("employment", "contractor"),
        ("aud", "lineal"),
    ] {
        assert_eq!(credential.claims.get(claim).map(String::as_str), Some(text), "{claim}");
    }
    assert!(credential.expires_unix > clock_unix() + 3500);
    assert_eq!(verified.forget_unix, credential.expires_unix + 60);
    let run = verified.run.clone().unwrap();
    assert_eq!(run.claims().keys().collect::<Vec<_>>(), ["run_attempt", "run_id"]);
    assert_eq!(verified.issuer_name, "lab");
}

#[tokio::test]
async fn a_verified_token_is_admitted_again_only_if_it_names_its_run() {
    let provider = provider();
    let verifier = verifier(&provider.issuer, "");
    let enroller = Enroller { uid: 1000, pod_uid: None };
    let mut uses = UseTable::new(8);
    for (client, again) in [("nightly", true), ("release-bot", true), ("single-use", false)] {
        let token = provider.token(client).await;
        let verified = verify(&verifier, &token, clock_unix()).await.unwrap();
        assert_eq!(uses.admit(verified.as_use(), &enroller, clock_unix()), Ok(Admitted::First), "{client}");
        let verified = verify(&verifier, &token, clock_unix()).await.unwrap();
        let second = uses.admit(verified.as_use(), &enroller, clock_unix());
        assert_eq!(second.is_ok(), again, "{client}: {second:?}");
    }
}

#[tokio::test]
async fn signatures_of_every_accepted_algorithm_are_verified() {
    for alg in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        check_order(json!({}), json!({"alg": alg}), Ok(())).await;
        let forged =
            "the token's signature is wrong: it was not made by issuer `lab`, or the token was changed";
        check_order(json!({}), json!({"alg": alg, "key": "foreign"}), Err(forged)).await;
    }
}

#[tokio::test]
async fn unsigned_tokens_are_refused() {
    let unsigned = Err("unsigned tokens are not accepted");
    for alg in ["none", "None", "NONE"] {
        check_order(json!({}), json!({"alg": "none", "header": {"alg": alg}}), unsigned).await;
    }
    let provider = provider();
    let token = provider.mint(json!({"claims": claims(&provider.issuer, json!({}))})).await;
    let (signed, _) = token.rsplit_once('.').unwrap();
    check(&verifier(&provider.issuer, ""), &format!("{signed}."), NOW, unsigned).await;
}

#[tokio::test]
async fn signatures_with_a_shared_secret_are_refused_even_with_the_public_key_as_secret() {
    for alg in ["HS256", "HS384", "HS512"] {
        let refused = format!(
            "tokens signed with `{alg}` are not accepted, only those signed with RS256/384/512, \
             PS256/384/512, ES256/384 and EdDSA"
        );
        check_order(json!({}), json!({"alg": alg}), Err(&refused)).await;
    }
}

#[tokio::test]
async fn a_token_whose_algorithm_does_not_fit_its_key_is_refused() {
    let provider = provider();
    let rs256 = provider.mint(json!({"claims": claims(&provider.issuer, json!({}))})).await;
    let (head, rest) = rs256.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    header["alg"] = json!("ES256");
    let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let verified = verify(&verifier(&provider.issuer, ""), &token, NOW).await.unwrap_err();
    assert!(
        verified.starts_with("the token is signed with a key that issuer `lab` does not publish"),
        "{verified}"
    );
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let provider = provider();
    let token = provider.mint(json!({"claims": claims(&provider.issuer, json!({}))})).await;
    let parts: Vec<_> = token.split('.').collect();
    let mut payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    payload["sub"] = json!("employee:release-bot");
    let changed = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(payload.to_string()), parts[2]);
    let refused = "the token's signature is wrong: it was not made by issuer `lab`, or the token was changed";
    check(&verifier(&provider.issuer, ""), &changed, NOW, Err(refused)).await;
}

#[tokio::test]
async fn a_token_whose_audience_is_not_this_host_alone_is_refused() {
    for (audience, shown) in [
        (json!("github"), "github"),
        (json!(["a", "b"]), "a, b"),
        // Everybody in the audience could use the token here.
        (json!(["lineal", "other"]), "lineal, other"),
        (json!(null), "nobody"),
        (json!([]), "nobody"),
        (json!("a\nlineal: ok"), "a\\nlineal: ok"),
    ] {
        let shown = if shown == "nobody" && audience.is_array() { "" } else { shown };
        let refused = format!("the token is for audience {shown}, this host expects lineal alone");
        check_order(json!({"aud": audience}), json!({}), Err(&refused)).await;
    }
    check_order(json!({"aud": ["lineal"]}), json!({}), Ok(())).await;
}

#[tokio::test]
async fn a_token_of_an_issuer_that_is_not_configured_is_refused_without_asking_anybody() {
    let with_slash = format!("{}/", provider().issuer);
    for issuer in ["https://evil.example", &with_slash] {
        let refused = format!(
            "the token is from issuer {issuer}, which this host is not configured to believe; if it should \
             be, add an [[issuer]] with this `url`"
        );
        check_order(json!({"iss": issuer}), json!({}), Err(&refused)).await;
    }
}

#[tokio::test]
async fn expiry_and_start_are_checked_to_the_second_with_the_clock_skew() {
    let expires = json!({"exp": NOW + 100});
    check_order_at(expires.clone(), json!({}), NOW + 159, Ok(())).await;
    check_order_at(expires.clone(), json!({}), NOW + 160, Err(&expired(60))).await;
    check_order_at(expires, json!({}), NOW + 412, Err(&expired(312))).await;

    let not_before = json!({"nbf": NOW + 60});
    check_order(not_before.clone(), json!({}), Ok(())).await;
    let early = "the token is not valid for another 61 s; are this host's and the issuer's clocks right?";
    check_order_at(not_before, json!({}), NOW - 1, Err(early)).await;

    let issued = json!({"iat": NOW + 60, "nbf": null});
    check_order(issued.clone(), json!({}), Ok(())).await;
    let early = "the token was issued 61 s in the future; are this host's and the issuer's clocks right?";
    check_order_at(issued, json!({}), NOW - 1, Err(early)).await;
}

#[tokio::test]
async fn a_configured_clock_skew_replaces_the_default() {
    let provider = provider();
    let token = provider.mint(json!({"claims": claims(&provider.issuer, json!({"exp": NOW + 100}))})).await;
    let strict = verifier(&provider.issuer, "clock_skew_s = 0");
    check(&strict, &token, NOW + 99, Ok(())).await;
    check(&strict, &token, NOW + 100, Err(&expired(0))).await;
    let lax = verifier(&provider.issuer, "clock_skew_s = 300");
    check(&lax, &token, NOW + 399, Ok(())).await;
    check(&lax, &token, NOW + 400, Err(&expired(300))).await;
}

#[tokio::test]
async fn a_short_lived_token_of_the_provider_expires() {
    let provider = provider();
    let token = provider.token("short-lived").await;
    let verifier = verifier(&provider.issuer, "clock_skew_s = 0");
    let expires_unix = verify(&verifier, &token, clock_unix()).await.unwrap().credential.expires_unix;
    check(&verifier, &token, expires_unix, Err(&expired(0))).await;
}

#[tokio::test]
async fn a_token_that_lacks_a_required_claim_is_refused() {
    for (name, what) in [
        ("sub", "it has no subject (`sub`)"),
        ("exp", "it has no expiry (`exp`)"),
        ("iat", "it has no time of issue (`iat`)"),
    ] {
        let refused = format!("the token is not a JSON Web Token: {what}");
        check_order(json!({name: null}), json!({}), Err(&refused)).await;
    }
    for (name, value, what) in [
        ("iss", json!(7), "it has no issuer (`iss`)"),
        ("sub", json!(""), "it has no subject (`sub`)"),
        ("exp", json!("tomorrow"), "it has no expiry (`exp`)"),
        ("nbf", json!("now"), "its `nbf` is not a time"),
        ("jti", json!(7), "its `jti` is not text"),
        ("exp", json!(1e300), "its header or claims are not those of an ID token"),
    ] {
        let provider = provider();
        let mut all = claims(&provider.issuer, json!({"jti": "1", "aud": "lineal", "sub": "s"}));
        all[name] = value;
        let token = unsigned_garbage(&json!({"alg": "RS256"}), &all);
        let refused = format!("the token is not a JSON Web Token: {what}");
        check(&verifier(&provider.issuer, ""), &token, NOW, Err(&refused)).await;
    }
}

/// Text that looks like a signed token, with a signature that is none.
fn unsigned_garbage(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.AAAA", part(header), part(claims))
}

#[tokio::test]
async fn a_token_that_is_not_an_id_token_is_refused() {
    let refused = "the token's header says that it is not a plain ID token (its `typ` must be JWT or \
                   absent; no `cty`, no `crit`)";
    for header in [json!({"typ": "at+jwt"}), json!({"typ": "JOSE"}), json!({"cty": "JWT"})] {
        check_order(json!({}), json!({"header": header}), Err(refused)).await;
    }
    for header in [json!({"typ": null}), json!({"typ": "jwt"}), json!({"typ": "application/jwt"})] {
        check_order(json!({}), json!({"header": header}), Ok(())).await;
    }
    let provider = provider();
    let header = json!({"alg": "RS256", "crit": ["exp"], "exp": 1});
    let token = unsigned_garbage(&header, &claims(&provider.issuer, json!({"sub": "s", "aud": "lineal"})));
    check(&verifier(&provider.issuer, ""), &token, NOW, Err(refused)).await;
}

#[tokio::test]
async fn garbage_is_refused_with_the_reason() {
    let verifier = verifier(&provider().issuer, "");
    let malformed = |what: &str| format!("the token is not a JSON Web Token: {what}");
    let three_parts = malformed("it is not three parts with dots between");
    let header = malformed("its header is not base64url of a JSON object");
    let object = URL_SAFE_NO_PAD.encode("{}");
    for (token, refused) in [
        (String::new(), "the token is empty".to_owned()),
        (" \n".to_owned(), "the token is empty".to_owned()),
        ("hunter2".to_owned(), three_parts.clone()),
        ("a.b".to_owned(), three_parts),
        ("..".to_owned(), header.clone()),
        ("=.=.=".to_owned(), header.clone()),
        (format!("{}.{object}.a", URL_SAFE_NO_PAD.encode("[]")), header),
        (format!("{object}.{object}.a"), malformed("its header has no `alg`")),
        (format!("{object}.a.{object}.a"), malformed("its claims are not base64url of a JSON object")),
        (unsigned_garbage(&json!({"alg": "RS256"}), &json!({})), malformed("it has no issuer (`iss`)")),
        (
            URL_SAFE_NO_PAD.encode("[".repeat(9000)) + ".a.b",
            malformed("its header is not base64url of a JSON object"),
        ),
        ("x".repeat(16 * 1024 + 1), "the token has 16385 bytes, at most 16384 are accepted".to_owned()),
    ] {
        check(&verifier, &token, NOW, Err(&refused)).await;
    }
}

#[tokio::test]
async fn a_token_with_its_signature_encoded_differently_has_the_same_id() {
    let provider = provider();
    let verifier = verifier(&provider.issuer, "");
    let order = json!({"claims": claims(&provider.issuer, json!({"jti": null})), "alg": "RS256"});
    let token = provider.mint(order).await;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    // Base64 of 256 bytes leaves four bits of the last character unused: "A" and "B" decode alike.
    let last = signature.chars().last().unwrap();
    let respelled = char::from_u32(u32::from(last) + 1).unwrap();
    let respelled = format!("{signed}.{}{respelled}", &signature[..signature.len() - 1]);
    let first = verify(&verifier, &token, NOW).await.unwrap().token_id;
    assert_eq!(verify(&verifier, &respelled, NOW).await.unwrap().token_id, first);
    // The same claims with another `jti` are another token.
    let claims = claims(&provider.issuer, json!({"jti": "other"}));
    let other = provider.mint(json!({"claims": claims})).await;
    assert_ne!(verify(&verifier, &other, NOW).await.unwrap().token_id, first);
}

#[tokio::test]
async fn a_pod_s_token_names_its_pod_and_its_namespace() {
    let provider = provider();
    let config =
        format!("[[issuer]]\nname = \"cluster\"\npreset = \"kubernetes\"\nurl = \"{}\"\n", provider.issuer);
    let verifier = Verifier::new(&parse(&config).unwrap()).unwrap();
    let pod = json!({"kubernetes.io": {"namespace": "ci", "pod": {"name": "job-7", "uid": "u-7"}}});
    let token = provider.mint(json!({"claims": claims(&provider.issuer, pod)})).await;
    let verified = verify(&verifier, &token, NOW).await.unwrap();
    assert_eq!(verified.pod_uid.as_deref(), Some("u-7"));
    assert_eq!(verified.credential.claims["kubernetes.io.namespace"], "ci");
    assert_eq!(verified.credential.groups, [""; 0]);
    let run = verified.run.clone().unwrap();
    assert_eq!(run.claims()["kubernetes.io.pod.uid"], "u-7");
    let outside = Enroller { uid: 0, pod_uid: None };
    let inside = Enroller { uid: 0, pod_uid: Some("u-7".to_owned()) };
    let mut uses = UseTable::new(1);
    assert!(uses.admit(verified.as_use(), &outside, NOW).is_err());
    assert_eq!(uses.admit(verified.as_use(), &inside, NOW), Ok(Admitted::First));
    assert_eq!(uses.admit(verified.as_use(), &inside, NOW), Ok(Admitted::Again));
}
