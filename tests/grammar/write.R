# JSON with every digit: numbers read back as the same double; one record a line, to be diffed.

number <- function(v) {
  short <- sprintf("%.15g", v)
  text <- short
  long <- which(is.finite(v))[as.numeric(short[is.finite(v)]) != v[is.finite(v)]]
  text[long] <- sprintf("%.17g", v[long])
  text[is.infinite(v)] <- ifelse(v[is.infinite(v)] > 0, '"Inf"', '"-Inf"')
  text[is.nan(v)] <- '"NaN"'
  text[is.na(v) & !is.nan(v)] <- "null"
  text
}

quoted <- function(text) {
  plain <- enc2utf8(as.character(text))
  for (pair in list(c("\\", "\\\\"), c("\"", "\\\""), c("\n", "\\n"), c("\t", "\\t"), c("\r", "\\r")))
    plain <- gsub(pair[1], pair[2], plain, fixed = TRUE)
  ifelse(is.na(text), "null", paste0('"', plain, '"'))
}

array <- function(items) paste0("[", paste(items, collapse = ","), "]")

# A vector becomes an array, one wrapped by `one()` a scalar, a named list an object.
one <- function(v) structure(list(v), class = "one")

json <- function(v) {
  if (is.null(v)) return("null")
  if (inherits(v, "one")) return(plain(v[[1]]))
  if (is.list(v) && !is.null(names(v)))
    return(paste0("{", paste0(quoted(names(v)), ":", vapply(v, json, ""), collapse = ","), "}"))
  if (is.list(v)) return(array(vapply(v, json, "")))
  array(plain(v))
}

plain <- function(v) {
  if (is.character(v)) quoted(v)
  else if (is.logical(v)) ifelse(is.na(v), "null", ifelse(v, "true", "false"))
  else number(as.vector(unclass(v)))
}

write_records <- function(records, path) {
  lines <- vapply(records, json, "")
  writeLines(c("[", paste0(lines, c(rep(",", length(lines) - 1), "")), "]"), path, useBytes = TRUE)
  cat(sprintf("%-18s %5d records, %7.0f bytes\n", path, length(records), file.size(path)))
}
