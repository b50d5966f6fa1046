# What a formula sees for an expression: model.frame(~ EXPR, data), all rows kept.

# R's formula algebra reads these operators itself; under them an expression needs I().
algebra <- c("+", "-", "*", "/", ":", "^", "%in%", "(", "|", "||", "~")

in_formula <- function(call) {
  if (is.call(call)) is.name(call[[1]]) && as.character(call[[1]]) %in% algebra
  else !is.name(call)
}

formula_of <- function(call, wrap) {
  formula <- as.formula(as.call(list(as.name("~"), if (wrap) call("I", call) else call)))
  environment(formula) <- new.env(parent = globalenv())
  formula
}

labels_of <- function(v) {
  if (is.null(colnames(v))) NULL else colnames(v)
}

# A value as fields of a record.
described <- function(v) {
  if (is.data.frame(v)) v <- as.matrix(v)
  class(v) <- setdiff(class(v), c("AsIs", "matrix", "array"))
  if (is.factor(v))
    list(kind = one("factor"), levels = levels(v), ordered = one(is.ordered(v)), values = as.integer(v))
  else if (length(dim(v)) == 2)
    list(kind = one("matrix"), names = labels_of(v), rows = if (nrow(v) < 10) rownames(v),
         values = unname(lapply(seq_len(ncol(v)), function(j) as.vector(v[, j]) + 0)))
  else if (inherits(v, "Date")) list(kind = one("date"), values = as.numeric(v))
  else if (is.character(v)) list(kind = one("text"), values = as.vector(v))
  else if (is.logical(v)) list(kind = one("logical"), values = as.vector(v))
  else if (is.numeric(v) || inherits(v, "difftime"))
    list(kind = one("numeric"), values = as.numeric(unclass(v)), labels = names_of_scalars(v))
  else stop("no kind for ", class(v)[1])
}

# Names matter where a summary gives them (quantile), not where they are row names.
names_of_scalars <- function(v) {
  if (length(v) < 10 && !is.null(names(v)) && !identical(names(v), as.character(seq_along(v))))
    names(v)
}

compact <- function(record) record[!vapply(record, is.null, TRUE)]

# The value of `code`, the first warning's and the error's message.
attempt <- function(code) {
  warned <- NULL
  caught <- tryCatch(
    list(value = withCallingHandlers(code, warning = function(w) {
      if (is.null(warned)) warned <<- conditionMessage(w)
      invokeRestart("muffleWarning")
    })),
    error = function(e) list(error = conditionMessage(e))
  )
  c(caught, list(warning = warned))
}

parsed <- function(text) {
  calls <- parse(text = text, keep.source = FALSE)
  if (length(calls) != 1) stop(length(calls), " expressions")
  calls[[1]]
}

frame_of <- function(formula, data) model.frame(formula, data, na.action = na.pass)

# R's own prediction: the training frame's terms (predvars) and levels.
predicted <- function(frame, new) {
  terms <- attr(frame, "terms")
  model.frame(terms, new, na.action = na.pass, xlev = .getXlevels(terms, frame))
}

added_new <- function(record, got) {
  if (!is.null(got$error)) record$new_error <- one(got$error)
  else {
    fields <- described(got$value)
    text_made_factor <- record$kind[[1]] == "text" && fields$kind[[1]] == "factor"
    record$new <- if (text_made_factor) fields$levels[fields$values] else fields$values
  }
  record
}

value_record <- function(text, section, data, new = NULL, set = NULL) {
  call <- attempt(parsed(text))
  if (!is.null(call$error)) {
    message("R does not parse: ", text)
    return(refused_record(text, section))
  }
  call <- call$value
  wrap <- in_formula(call)
  got <- attempt(frame_of(formula_of(call, wrap), data))
  record <- list(text = one(text), section = one(section), data = if (!is.null(set)) one(set))
  if (!is.null(got$error)) {
    if (section != "errors") message("error: ", text, "  ", got$error)
    return(compact(c(record, list(kind = one("error"), message = one(got$error)))))
  }
  if (wrap) record$inside <- one("I")
  record <- c(record, described(got$value[[1]]))
  terms <- attr(got$value, "terms")
  if (!identical(attr(terms, "predvars"), attr(terms, "variables"))) record$remembers <- one(TRUE)
  if (!is.null(got$warning)) record$warning <- one(got$warning)
  if (!is.null(new) && length(record$values) > 0)
    record <- added_new(record, attempt(predicted(got$value, new)[[1]]))
  compact(record)
}

columns_of <- function(frame, contrasts = NULL) {
  m <- model.matrix(attr(frame, "terms"), frame, contrasts.arg = contrasts)
  list(m = m[, -1, drop = FALSE], contrasts = attr(m, "contrasts"))
}

# C() refuses text: here f and k are factors.
as_factors <- function(data) {
  data$f <- factor(data$f, levels = c("a", "b", "c"))
  data$k <- factor(data$k, levels = c("hi", "lo", "mid", "top"))
  data
}

contrast_record <- function(text, data, new) {
  got <- attempt(frame_of(formula_of(parsed(text), FALSE), data))
  record <- list(text = one(text), section = one("contrasts"))
  columns <- if (is.null(got$error)) attempt(columns_of(got$value)) else got
  if (!is.null(columns$error)) {
    message("error: ", text, "  ", columns$error)
    return(c(record, list(kind = one("error"), message = one(columns$error))))
  }
  record <- c(record, described(columns$value$m))
  record$kind <- one("contrast")
  record$levels <- levels(got$value[[1]])
  compact(added_new(record, attempt(
    columns_of(predicted(got$value, new), columns$value$contrasts)$m
  )))
}

refused_record <- function(text, section = "refused") {
  got <- attempt(parse(text = text, keep.source = FALSE))
  if (is.null(got$error) && length(got$value) == 1) {
    message("R parses: ", text)
    return(NULL)
  }
  message <- if (is.null(got$error)) paste(length(got$value), "expressions") else got$error
  list(text = one(text), section = one(section), kind = one("refused"), message = one(sub("\n.*", "", message)))
}

write_expressions <- function(sets) {
  data <- sets$data.csv
  new <- sets$new.csv
  texts <- c(list(pairs = operator_pairs()), lapply(sections, lines_of), list(lines = whole_texts))
  records <- list()
  for (section in names(texts))
    records <- c(records, lapply(texts[[section]], value_record, section, data, new))
  records <- c(records, lapply(contrast_texts, contrast_record, as_factors(data), as_factors(new)))
  records <- c(records, lapply(missing_texts, value_record, "missing", sets$missing.csv, set = "missing"))
  records <- c(records, lapply(error_texts, function(text) {
    record <- value_record(text, "errors", data)
    if (record$kind[[1]] == "error") return(record)
    message("no error: ", text)
    NULL
  }))
  records <- c(records, lapply(refused_texts, refused_record))
  records <- records[!vapply(records, is.null, TRUE)]
  write_records(records, "expressions.json")
  print(table(vapply(records, function(r) r$kind[[1]], "")))
  invisible(records)
}
