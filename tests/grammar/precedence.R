# R's syntax trees with explicit parentheses around every operation.

binary_operators <- c(
  "^", ":", "*", "/", "+", "-", "<", ">", "<=", ">=", "==", "!=", "&", "&&", "|", "||", "~",
  "<-", "=", "$", "@", "::", ":::", "?"
)
unspaced <- c("$", "@", "::", ":::")

atom <- function(v) {
  if (is.name(v)) {
    text <- as.character(v)
    if (make.names(text) == text || text == "...") text else paste0("`", text, "`")
  } else if (is.character(v)) quoted(v)
  else if (is.integer(v) && !is.na(v)) paste0(v, "L")
  else if (is.double(v) && is.finite(v)) number(v)
  else deparse(v)
}

is_empty <- function(v) is.name(v) && identical(as.character(v), "")

arguments <- function(call) {
  items <- as.list(call)
  texts <- vapply(items, function(v) if (is_empty(v)) "" else full(v), "")
  named <- if (is.null(names(items))) rep(FALSE, length(items)) else nzchar(names(items))
  texts[named] <- paste(vapply(names(items)[named], function(n) atom(as.name(n)), ""), "=", texts[named])
  paste(texts, collapse = ", ")
}

operation <- function(call, op) {
  if (length(call) == 2) return(paste0("(", op, full(call[[2]]), ")"))
  space <- if (op %in% unspaced) "" else " "
  paste0("(", full(call[[2]]), space, op, space, full(call[[3]]), ")")
}

full <- function(v) {
  if (!is.call(v)) return(atom(v))
  head <- if (is.name(v[[1]])) as.character(v[[1]]) else ""
  if (head == "(") full(v[[2]])
  else if (head == "{") paste0("{", paste(vapply(as.list(v)[-1], full, ""), collapse = "; "), "}")
  else if (head == "[") paste0(full(v[[2]]), "[", arguments(v[-(1:2)]), "]")
  else if (head == "[[") paste0(full(v[[2]]), "[[", arguments(v[-(1:2)]), "]]")
  else if (head == "if") paste0("if(", paste(vapply(as.list(v)[-1], full, ""), collapse = ", "), ")")
  else if (head == "function")
    paste0("(function(", gsub(" = (?=,|$)", "", arguments(v[[2]]), perl = TRUE), ") ", full(v[[3]]), ")")
  else if (head %in% c("!", binary_operators) || grepl("^%.*%$", head)) operation(v, head)
  else paste0(full(v[[1]]), "(", arguments(v[-1]), ")")
}

precedence_record <- function(text) {
  got <- attempt(parsed(text))
  if (is.null(got$error)) list(text = one(text), full = one(full(got$value)))
  else list(text = one(text), full = NULL, message = one(sub("\n.*", "", got$error)))
}

write_precedence <- function() {
  write_records(lapply(unique(precedence_texts()), precedence_record), "precedence.json")
}
