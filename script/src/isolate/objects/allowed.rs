//! What programs may use of SQLite: functions and pragmas by name. What is not here is refused.

/// Pragmas, and whether a value may be given.
pub(super) const PRAGMAS: &[(&str, bool)] = &[
    ("case_sensitive_like", true),
    ("data_version", false),
    ("defer_foreign_keys", true),
    ("foreign_key_check", true),
    ("foreign_key_list", true),
    ("foreign_keys", true),
    ("ignore_check_constraints", true),
    ("index_info", true),
    ("index_list", true),
    ("index_xinfo", true),
    ("legacy_alter_table", true),
    ("optimize", true),
    ("page_size", false),
    ("quick_check", true),
    ("recursive_triggers", true),
    ("reverse_unordered_selects", true),
    ("table_info", true),
    ("table_list", true),
    ("table_xinfo", true),
];

/// Functions.
#[rustfmt::skip]
pub(super) const FUNCTIONS: &[&str] = &[
    "->", "->>", "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "avg", "bm25", "ceil", "ceiling", "changes", "char",
    "coalesce", "concat", "concat_ws", "cos", "cosh", "count", "cume_dist", "current_date", "current_time", "current_timestamp", "date",
    "datetime", "degrees", "dense_rank", "exp", "first_value", "floor", "format", "fts5", "fts5_get_locale", "glob", "group_concat", "hex",
    "highlight", "if", "ifnull", "iif", "instr", "json", "json_array", "json_array_length", "json_each", "json_error_position",
    "json_extract", "json_group_array", "json_group_object", "json_insert", "json_object", "json_patch", "json_pretty", "json_quote",
    "json_remove", "json_replace", "json_set", "json_tree", "json_type", "json_valid", "jsonb", "jsonb_array", "jsonb_extract",
    "jsonb_group_array", "jsonb_group_object", "jsonb_insert", "jsonb_object", "jsonb_patch", "jsonb_remove", "jsonb_replace",
    "jsonb_set", "julianday", "lag", "last_insert_rowid", "last_value", "lead", "length", "like", "likelihood", "likely", "ln", "log",
    "log10", "log2", "lower", "ltrim", "match", "max", "min", "mod", "nth_value", "ntile", "nullif", "octet_length", "percent_rank", "pi",
    "pow", "power", "printf", "quote", "radians", "random", "randomblob", "rank", "replace", "round", "row_number", "rtrim", "sign", "sin",
    "sinh", "snippet", "soundex", "sqrt", "strftime", "string_agg", "substr", "substring", "subtype", "sum", "tan", "tanh", "time",
    "timediff", "total", "total_changes", "trim", "trunc", "typeof", "unhex", "unicode", "unistr", "unistr_quote", "unixepoch", "unlikely",
    "upper", "zeroblob",
];
