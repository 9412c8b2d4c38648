//! Where what is built comes from, and what the image is made of.

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_dependency_comes_from_the_registry_with_a_checksum() {
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        let lock: toml::Value = toml::from_str(&file(lock)).expect("TOML");
        let packages = lock["package"].as_array().expect("packages");
        let crates = std::fs::read_dir(root().join("crates")).expect("a folder").flatten();
        let ours: Vec<String> =
            crates.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let is_ours = |package: &&toml::Value| {
            let name = package["name"].as_str().unwrap_or_default();
            name.starts_with("herald") || ours.iter().any(|own| own == name)
        };
        for package in packages.iter().filter(|package| !is_ours(package)) {
            let source = package.get("source").and_then(toml::Value::as_str).unwrap_or_default();
            let is_registry = source == "registry+https://github.com/rust-lang/crates.io-index";
            assert!(is_registry && package.get("checksum").is_some(), "{}: {source}", package["name"]);
        }
    }
}

#[test]
fn the_image_has_no_shell_and_its_bases_are_named_at_one_place() {
    let image = file("Dockerfile");
    let is_base = |line: &&str| line.starts_with("ARG ") && line.contains("_IMAGE=");
    assert_eq!(image.lines().filter(is_base).count(), 3);
    for from in image.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        assert!(from.starts_with("${") || from.starts_with("base"), "{from} is named at its place");
    }
    assert!(image.contains("RUNTIME_IMAGE=gcr.io/distroless/") && image.contains("USER 65532:65532"));
}

#[test]
fn every_service_of_the_compose_file_has_limits() {
    let compose = file("docker-compose.yml");
    let (settings, services) = compose.split_once("\nservices:\n").expect("services");
    for limit in [
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
        "mem_limit:",
        "pids_limit:",
        "ulimits:",
    ] {
        assert!(settings.contains(limit), "Herald's containers have no {limit}");
    }
    let (services, _) = services.split_once("\nvolumes:\n").expect("volumes");
    for service in services.split("\n\n") {
        let is_limited = service.contains("<<: *herald")
            || (service.contains("mem_limit:") && service.contains("pids_limit:"));
        assert!(is_limited, "no limits:\n{service}");
    }
}

#[test]
fn every_container_of_the_manifests_has_limits_and_no_rights() {
    let manifests = file("docs/deploy/kubernetes.yaml");
    let containers: Vec<&str> =
        manifests.split("\n---\n").filter(|one| one.contains("containers:")).collect();
    assert_eq!(containers.len(), 2);
    for container in containers {
        for limit in [
            "runAsNonRoot: true",
            "readOnlyRootFilesystem: true",
            "allowPrivilegeEscalation: false",
            "capabilities: {drop: [ALL]}",
            "limits: {memory:",
            "automountServiceAccountToken: false",
        ] {
            assert!(container.contains(limit), "no {limit}:\n{container}");
        }
    }
}
