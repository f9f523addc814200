//! Validates the hooks, callbacks and crons of an app, and routes and actions without a port.

use berth_common::spec::{Action, AppSpec, ClassSpec, MAX_CALLBACKS, MAX_CRONS};

use super::Fault;

pub(super) fn faults(app: &AppSpec) -> Vec<Fault> {
    let classes = app.classes.iter().flat_map(|(name, class)| of_class(&format!("classes.{name}"), class));
    let crons = app.crons.iter().enumerate().filter_map(|(index, cron)| {
        let path = format!("crons[{index}]");
        let Some(class) = app.classes.get(&cron.class) else {
            return Some(fault(format!("{path}.class"), format!("there is no class `{}`", cron.class)));
        };
        of_action(&format!("{path}.action"), &cron.action, class)
    });
    let routes = app.routes.iter().enumerate().filter_map(|(index, route)| {
        let without = app.classes.get(&route.class).is_some_and(|class| class.default_port.is_none());
        let message = format!("is needed: the class `{}` has no default_port", route.class);
        (without && route.port.is_none()).then(|| fault(format!("routes[{index}].port"), message))
    });
    let mut faults: Vec<Fault> = classes.chain(crons).chain(routes).collect();
    if app.crons.len() > MAX_CRONS {
        faults.push(fault("crons".to_owned(), format!("at most {MAX_CRONS} are allowed")));
    }
    faults
}

fn of_class(path: &str, class: &ClassSpec) -> Vec<Fault> {
    let hooks = class.hooks.iter().filter_map(|hooks| hooks.fault());
    let hooks = hooks.map(|(field, message)| fault(format!("{path}.hooks.{field}"), message));
    let callbacks = class
        .callbacks
        .iter()
        .filter_map(|(name, action)| of_action(&format!("{path}.callbacks.{name}"), action, class));
    let mut faults: Vec<Fault> = hooks.chain(callbacks).collect();
    if class.callbacks.len() > MAX_CALLBACKS {
        faults.push(fault(format!("{path}.callbacks"), format!("at most {MAX_CALLBACKS} are allowed")));
    }
    let waits = !class.required_ports.is_empty() || class.ping_endpoint.is_some();
    if class.default_port.is_none() && waits {
        let message = "is needed where there are required_ports or a ping_endpoint".to_owned();
        faults.push(fault(format!("{path}.default_port"), message));
    }
    faults
}

fn of_action(path: &str, action: &Action, class: &ClassSpec) -> Option<Fault> {
    if let Some((field, message)) = action.fault() {
        return Some(fault(format!("{path}.{field}"), message));
    }
    match action {
        Action::Hook if class.hooks.is_none() => {
            Some(fault(path.to_owned(), "tells a hook, and the class has none".to_owned()))
        }
        Action::Request(request) if request.port.is_none() && class.default_port.is_none() => {
            Some(fault(format!("{path}.port"), "is needed: the class has no default_port".to_owned()))
        }
        Action::Hook | Action::Request(_) | Action::Start { .. } => None,
    }
}

fn fault(field: String, message: String) -> Fault {
    Fault { field, message }
}

#[cfg(test)]
mod tests {
    use berth_common::spec::{CronSpec, HooksSpec};
    use berth_store::fixtures::app;

    use super::*;

    fn fields(app: &AppSpec) -> Vec<String> {
        faults(app).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn impossible_triggers_are_named_with_their_field() {
        let mut bad = app("a", &[("/x", None)]);
        let class = bad.classes.values_mut().next().unwrap();
        class.callbacks.insert("tell".parse().unwrap(), Action::Hook);
        class.default_port = None;
        let cron = |class: &str| CronSpec {
            cron: "* * * * *".parse().unwrap(),
            class: class.parse().unwrap(),
            object: "cron".parse().unwrap(),
            action: Action::Start { env: [("A=".to_owned(), String::new())].into() },
        };
        bad.crons = vec![cron("Other"), cron("Class")];
        let expected =
            ["classes.Class.callbacks.tell", "crons[0].class", "crons[1].action.env", "routes[0].port"];
        assert_eq!(fields(&bad), expected);

        let mut good = app("a", &[("/x", None)]);
        let class = good.classes.values_mut().next().unwrap();
        class.callbacks.insert("tell".parse().unwrap(), Action::Hook);
        let (url, secret) = ("https://example.com".to_owned(), "KEY".to_owned());
        class.hooks = Some(HooksSpec { url, secret, events: Default::default() });
        assert_eq!(fields(&good), Vec::<String>::new());
    }
}
