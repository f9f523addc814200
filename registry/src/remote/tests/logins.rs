//! Tests of authentication, and of who is sent credentials.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::secret::Secret;

use super::*;

fn login(password: &str) -> Login {
    Login { username: "me".to_owned(), password: Secret::new(password.to_owned()) }
}

fn basic(password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("me:{password}")))
}

fn unknown(challenge: String) -> Answer {
    Answer::of(401, r#"{"errors":[{"message":"who are you"}]}"#).header("www-authenticate", challenge)
}

/// A registry that requires tokens, which it issues to those with the right password.
async fn with_tokens(image: Image, token_life: u64) -> Fake {
    Fake::start(move |asked| {
        let host = asked.header("host").unwrap();
        if asked.path.starts_with("/token?") {
            return match asked.header("authorization") {
                Some(given) if given == basic("right") => {
                    Answer::of(200, json!({ "token": "t1", "expires_in": token_life }).to_string())
                }
                _ => Answer::of(401, r#"{"details":"incorrect username or password"}"#),
            };
        }
        if asked.header("authorization") != Some("Bearer t1") {
            return unknown(format!("Bearer realm=\"http://{host}/token?x=y\",service=\"s & t\""));
        }
        if asked.path == "/v2/" { Answer::of(200, "{}") } else { image.answer(asked) }
    })
    .await
}

#[tokio::test]
async fn a_token_is_obtained_once_and_used_until_it_expires() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let fake = with_tokens(image.clone(), 300).await;
    let stage = Stage::new(&[&fake]);
    let from = format!("{}/a/b:v1", fake.address);
    let pull = Pull { login: Some(login("right")), ..wanted(&from) };
    stage.remote.pull(pull.clone(), &Progress::default()).await.unwrap();
    let tokens: Vec<_> = fake.asked().into_iter().filter(|asked| asked.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?x=y&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull&account=me");
    assert_eq!(fake.asked().len(), 5, "one request too many, and the token");
    stage.remote.pull(pull, &Progress::default()).await.unwrap();
    assert_eq!(fake.asked().len(), 6, "the token is used by later pulls too");

    // A token that is about to expire is renewed before it is used.
    let fake = with_tokens(image, 1).await;
    let stage = Stage::new(&[&fake]);
    let pull = Pull { login: Some(login("right")), ..wanted(&format!("{}/a/b:v1", fake.address)) };
    stage.remote.pull(pull, &Progress::default()).await.unwrap();
    assert!(fake.asked().iter().filter(|asked| asked.path.starts_with("/token")).count() > 1);
}

/// A registry whose realm takes only identity tokens.
async fn with_identity_tokens(image: Image) -> Fake {
    Fake::start(move |asked| {
        let host = asked.header("host").unwrap();
        if asked.path == "/token?x=y" {
            let form: Vec<_> = form_urlencoded::parse(&asked.body).into_owned().collect();
            let given =
                |name: &str| form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
            let right = asked.method == "POST"
                && asked.header("authorization").is_none()
                && asked.header("content-type") == Some("application/x-www-form-urlencoded")
                && given("grant_type") == Some("refresh_token")
                && given("service") == Some("s & t")
                && given("client_id").is_some()
                && given("refresh_token") == Some("right=&");
            return if right {
                Answer::of(
                    200,
                    json!({ "access_token": "t1", "scope": given("scope"), "expires_in": 300 }).to_string(),
                )
            } else {
                Answer::of(401, r#"{"errors":[{"message":"invalid refresh token"}]}"#)
            };
        }
        if asked.header("authorization") != Some("Bearer t1") {
            return unknown(format!("Bearer realm=\"http://{host}/token?x=y\",service=\"s & t\""));
        }
        if asked.path == "/v2/" { Answer::of(200, "{}") } else { image.answer(asked) }
    })
    .await
}

#[tokio::test]
async fn an_identity_token_is_exchanged_at_the_realm_and_goes_nowhere_else() {
    let fake = with_identity_tokens(Image::new("amd64", &[layer(1, 10)])).await;
    let stage = Stage::new(&[&fake]);
    let token = |text: &str| Login { username: "<token>".to_owned(), ..login(text) };
    let pull = |login| Pull { login: Some(login), ..wanted(&format!("{}/a/b:v1", fake.address)) };
    let error = stage.remote.pull(pull(token("wrong")), &Progress::default()).await.unwrap_err();
    assert!(error.to_string().contains("refuses the identity token: invalid refresh token"), "{error}");
    stage.remote.pull(pull(token("right=&")), &Progress::default()).await.unwrap();
    let exchanges = fake.asked().into_iter().filter(|asked| asked.path.starts_with("/token"));
    assert_eq!(exchanges.count(), 2);
    let elsewhere = fake.asked().into_iter().filter(|asked| !asked.path.starts_with("/token"));
    let given: Vec<_> =
        elsewhere.filter_map(|asked| asked.header("authorization").map(str::to_owned)).collect();
    assert!(!given.is_empty() && given.iter().all(|given| given == "Bearer t1"), "{given:?}");
    // A registry that wants a password does not get it.
    let basic = Fake::start(|_| unknown("Basic realm=\"x\"".to_owned())).await;
    let stage = Stage::new(&[&basic]);
    let registry = basic.address.to_string().parse().unwrap();
    stage.remote.check(&registry, token("right=&")).await.unwrap_err();
    assert!(basic.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_one_are_different_errors() {
    let fake = with_tokens(Image::default(), 300).await;
    let stage = Stage::new(&[&fake]);
    let from = format!("{}/a:v1", fake.address);
    let error = stage.pull(&from).await.unwrap_err();
    assert!(matches!(error, RemoteError::LoginNeeded { .. }), "{error}");
    assert!(error.to_string().contains("berth registries login 127.0.0.1:"), "{error}");
    let wrong = Pull { login: Some(login("wrong-one")), ..wanted(&from) };
    let error = stage.remote.pull(wrong, &Progress::default()).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, RemoteError::Refused { .. }) && text.contains("incorrect username"), "{text}");
    assert!(!text.contains("wrong-one"), "{text}");
    let registry = fake.address.to_string().parse().unwrap();
    assert!(stage.remote.check(&registry, login("wrong")).await.is_err());
    stage.remote.check(&registry, login("right")).await.unwrap();
}

#[tokio::test]
async fn a_stored_login_is_used() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let fake = Fake::start(move |asked| match asked.header("authorization") {
        Some(given) if given == basic("right") => image.answer(asked),
        _ => unknown("Basic realm=\"x\"".to_owned()),
    })
    .await;
    let stage = Stage::new(&[&fake]);
    let registry: Registry = fake.address.to_string().parse().unwrap();
    stage.logins.0.lock().unwrap().insert(registry, login("right"));
    stage.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
}

#[tokio::test]
async fn credentials_are_not_sent_to_redirect_targets() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let served = image.clone();
    let storage = Fake::start(move |asked| served.answer(asked)).await;
    let there = storage.address;
    let fake = Fake::start(move |asked| match asked.header("authorization") {
        Some(given) if given == basic("right") && asked.path.contains("/blobs/") => {
            Answer::of(302, "").header("location", format!("http://{there}{}", asked.path))
        }
        Some(given) if given == basic("right") => image.answer(asked),
        _ => unknown("Basic realm=\"x\"".to_owned()),
    })
    .await;
    let stage = Stage::new(&[&fake]);
    let pull = Pull { login: Some(login("right")), ..wanted(&format!("{}/a:v1", fake.address)) };
    stage.remote.pull(pull, &Progress::default()).await.unwrap();
    assert_eq!(storage.asked().len(), 2);
    assert!(storage.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[tokio::test]
async fn the_address_of_a_realm_is_checked_too() {
    for realm in
        ["http://10.0.0.1/token", "https://169.254.169.254/token", "file:///etc/passwd", "https://u@x/"]
    {
        let fake = Fake::start(move |_| unknown(format!("Bearer realm=\"{realm}\""))).await;
        let stage = Stage::new(&[&fake]);
        let pull = Pull { login: Some(login("right")), ..wanted(&format!("{}/a:v1", fake.address)) };
        let error = stage.remote.pull(pull, &Progress::default()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Web(_)), "{realm}: {error}");
    }
}
