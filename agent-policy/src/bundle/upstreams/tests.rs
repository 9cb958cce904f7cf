//! Which upstream an address belongs to, and what `upstreams.toml` may say.

use super::*;

fn load(texts: &[&str]) -> Result<Upstreams, BundleError> {
    let sources: Vec<_> =
        texts.iter().enumerate().map(|(i, text)| Source::new(format!("{i}/upstreams.toml"), *text)).collect();
    Upstreams::load(&sources.iter().collect::<Vec<_>>())
}

fn shop(addresses: &str) -> String {
    format!("[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\naddresses = [{addresses}]\n")
}

#[test]
fn a_destination_finds_its_upstream() {
    let check = |declared: &str, destination: &str, expect: bool| {
        let upstreams = load(&[&shop(declared)]).unwrap();
        let found = upstreams.at(destination.parse().unwrap()).is_some();
        assert_eq!(found, expect, "{destination} in {declared}");
    };
    check("\"127.0.0.1:5432\"", "127.0.0.1:5432", true);
    check("\"127.0.0.1:5432\"", "127.0.0.1:5433", false);
    check("\"127.0.0.1:5432\"", "127.0.0.2:5432", false);
    check("\"127.0.0.1:5432\"", "[::ffff:127.0.0.1]:5432", true);
    check("\"127.0.0.1:5432\"", "[::1]:5432", false);
    check("\"10.0.0.0/8:5432\"", "10.255.0.1:5432", true);
    check("\"10.0.0.0/8:5432\"", "11.0.0.1:5432", false);
    check("\"10.0.0.0/8:5432\"", "[::ffff:10.1.2.3]:5432", true);
    check("\"0.0.0.0/0:5432\"", "192.0.2.1:5432", true);
    check("\"0.0.0.0/0:5432\"", "[2001:db8::1]:5432", false);
    check("\"[::1]:5432\"", "[::1]:5432", true);
    check("\"[::1]:5432\"", "[::2]:5432", false);
    check("\"[fd00::/8]:5432\"", "[fdff::1]:5432", true);
    check("\"[fd00::/8]:5432\"", "[fe00::1]:5432", false);
    check("\"[::/0]:5432\"", "[2001:db8::1]:5432", true);
    check("\"[::ffff:10.0.0.0/104]:5432\"", "10.9.9.9:5432", true);
    check("\"[::ffff:127.0.0.1]:5432\"", "127.0.0.1:5432", true);
}

#[test]
fn the_longest_prefix_wins_in_any_order() {
    let entry = |name: &str, address: &str| {
        format!("[[upstream]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddresses = [\"{address}\"]\n")
    };
    let wide = entry("wide", "10.0.0.0/8:5432");
    let narrow = entry("narrow", "10.1.0.0/16:5432");
    let host = entry("host", "10.1.2.3:5432");
    for texts in [[&wide, &narrow, &host], [&host, &narrow, &wide], [&narrow, &host, &wide]] {
        let upstreams = load(&texts.map(String::as_str)).unwrap();
        let name = |to: &str| upstreams.at(to.parse().unwrap()).map(|u| u.name.to_string());
        assert_eq!(name("10.1.2.3:5432").as_deref(), Some("host"));
        assert_eq!(name("10.1.2.4:5432").as_deref(), Some("narrow"));
        assert_eq!(name("10.2.0.1:5432").as_deref(), Some("wide"));
        assert_eq!(name("10.1.2.3:5433"), None);
    }
}

#[test]
fn the_files_of_a_host_add_upstreams_and_override_undeclared() {
    let host = format!("undeclared = \"policy\"\n{}", shop("\"127.0.0.1:5432\""));
    assert_eq!(load(&["undeclared = \"deny\"", &host]).unwrap().undeclared, Undeclared::Policy);
    assert_eq!(load(&[&host, ""]).unwrap().undeclared, Undeclared::Policy);
    assert_eq!(load(&[]).unwrap().undeclared, Undeclared::Deny);
    assert!(load(&["", &host]).unwrap().named("shop").is_some());
}

#[test]
fn a_leg_has_the_tls_mode_and_the_logins_that_are_declared() {
    let leg = |more: &str| {
        let upstreams = load(&[&format!("{}{more}", shop("\"127.0.0.1:1\""))]).unwrap();
        upstreams.named("shop").unwrap().leg.clone()
    };
    assert_eq!(leg(""), Leg::default());
    let verified = leg("[upstream.tls]\nca = \"/ca.pem\"\nserver_name = \"db.example\"");
    assert_eq!((verified.tls, verified.server_name.as_deref()), (TlsMode::VerifyFull, Some("db.example")));
    assert_eq!(leg("[upstream.tls]\nca = \"/ca.pem\"\nmode = \"verify-ca\"").tls, TlsMode::VerifyCa);
    assert!(leg("[upstream.tls]\noffer = false").declines_tls);
    let roles = leg("credential = \"rw\"\n[[upstream.role]]\ngroup = \"b\"\ncredential = \"ro\"\n\
         [[upstream.role]]\ngroup = \"a\"\ncredential = \"none\"");
    assert_eq!(roles.login_for(&["a", "b"]), Some("ro"));
    assert_eq!(roles.login_for(&["a"]), Some("none"));
    assert_eq!(roles.login_for(&["c"]), Some("rw"));
    assert_eq!(roles.logins().collect::<Vec<_>>(), ["ro", "none", "rw"]);
    assert_eq!(leg("").login_for(&["a"]), None);
}

#[test]
fn a_login_is_relayed_over_tls_if_it_is_the_jobs_own_and_both_legs_may_have_tls() {
    let relays = |more: &str| {
        let upstreams = load(&[&format!("{}{more}", shop("\"127.0.0.1:1\""))]).unwrap();
        upstreams.named("shop").unwrap().leg.relays_logins_over_tls()
    };
    assert!(relays("") && relays("[upstream.tls]\nmode = \"require\""));
    assert!(!relays("credential = \"rw\""));
    assert!(!relays("[upstream.tls]\nmode = \"disable\"") && !relays("[upstream.tls]\noffer = false"));
}

#[test]
fn every_refusal_names_the_line_and_the_reason() {
    let check = |text: &str, line: usize, reason: &str| {
        let error = load(&[text]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("0/upstreams.toml:{line}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    };
    check("undeclared = \"deny\"\nundeclard = 1", 2, "unknown field `undeclard`");
    let lent = |address: &str, mode: &str| {
        format!("{}credential = \"c\"\n[upstream.tls]\n{mode}", shop(&format!("{address:?}")))
    };
    for mode in ["mode = \"disable\"", "mode = \"require\"", "mode = \"verify-ca\"\nca = \"/ca.pem\""] {
        check(&lent("10.0.0.0/8:5432", mode), 2, "must be one address, not a range");
        check(&lent("[fd00::/8]:5432", mode), 2, "must be one address, not a range");
        assert!(load(&[&lent("10.0.0.1:5432", mode)]).is_ok());
    }
    assert!(load(&[&lent("10.0.0.0/8:5432", "ca = \"/ca.pem\"")]).is_ok());
    check("undeclared = \"allow\"", 1, "unknown variant `allow`");
    check(&format!("{}port = 1", shop("\"127.0.0.1:1\"")), 5, "unknown field `port`");
    check("[[upstream]]\nname = \"a\"\nprotocol = \"mysql\"\naddresses = []", 3, "unknown variant `mysql`");
    check(&shop(""), 2, "has no addresses");
    let shop_with = |more: &str| format!("{}{more}", shop("\"127.0.0.1:1\""));
    check(&shop_with("[upstream.tls]\nmode = \"verify-full\""), 2, "needs a tls.ca");
    check(&shop_with("[upstream.tls]\nmode = \"require\"\nca = \"/a\""), 2, "does not use");
    check(&shop_with("[upstream.tls]\nmode = \"verify\""), 6, "unknown variant `verify`");
    check(&shop_with("[upstream.tls]\nca = \"a\""), 2, "not an absolute path");
    check(&shop_with("[upstream.tls]\nserver_name = \"a\""), 2, "does not use");
    check(&shop_with("[[upstream.role]]\ngroup = \"a\"\ncredential = \"b\""), 2, "no credential for jobs");
    check(&shop_with("credential = \"b\"").replace("postgres", "tcp"), 2, "speaks tcp");
    check(&shop("\"a\"").replace("shop", "a/b"), 2, "must be 1 to 64");
    check(&shop("\n\"db.example:5432\""), 5, "names are not resolved");
    check(&shop("\"127.0.0.1\""), 4, "has no port");
    check(&shop("\"127.0.0.1:0\""), 4, "has no port from 1");
    check(&shop("\"127.0.0.1:+1\""), 4, "has no port from 1");
    check(&shop("\"127.0.0.1:65536\""), 4, "has no port from 1");
    check(&shop("\"::1:5432\""), 4, "write [ADDRESS]:PORT");
    check(&shop("\"[::1:5432\""), 4, "has no ']'");
    check(&shop("\"10.0.0.1/8:5432\""), 4, "the network is 10.0.0.0");
    check(&shop("\"10.0.0.0/33:5432\""), 4, "impossible prefix");
    check(&shop("\"10.0.0.0/-1:5432\""), 4, "impossible prefix");
    check(&shop("\"127.0.0.1:1\", \"127.0.0.1:1\""), 4, "already declared by the upstream \"shop\"");
    check(&shop("\"127.0.0.1:1\", \"[::ffff:127.0.0.1]:1\""), 4, "already declared");
    let twice = format!("{}{}", shop("\"127.0.0.1:1\""), shop("\"127.0.0.1:2\""));
    check(&twice, 6, "declared twice");
    let taken = format!("{}{}", shop("\"127.0.0.1:1\""), shop("\"127.0.0.1:1\"").replace("shop", "other"));
    check(&taken, 8, "already declared by the upstream \"shop\"");
}
