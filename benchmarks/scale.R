# Fits one problem of the scale benchmarks with lme4 and writes one JSON line; called as
#   Rscript scale.R FOLDER FACTORS FORMULA REPEATS
# FOLDER has one raw array a column (int32 or float64) and columns.json. Reading and factor() are not timed;
# the timed call is the whole lmer(), formula included. Memory: the peak beyond what the data take.
args <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(lme4))
status <- function(name) {
  line <- grep(paste0("^", name, ":"), readLines("/proc/self/status"), value = TRUE)
  1024 * as.numeric(gsub("[^0-9]", "", line))
}
kinds <- gsub('[{}" ]', "", strsplit(paste(readLines(file.path(args[1], "columns.json"), warn = FALSE), collapse = ""), ",")[[1]])
frame <- list()
for (pair in strsplit(kinds, ":")) {
  path <- file.path(args[1], paste0(pair[1], ".bin"))
  frame[[pair[1]]] <- if (pair[2] == "int32") readBin(path, "integer", file.size(path) / 4, size = 4)
                      else readBin(path, "double", file.size(path) / 8)
}
frame <- as.data.frame(frame)
for (name in strsplit(args[2], ",")[[1]]) frame[[name]] <- factor(frame[[name]])
formula <- as.formula(args[3])
invisible(gc())
try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
before <- status("VmRSS")
seconds <- c()
while (length(seconds) < as.integer(args[4])) {
  seconds <- c(seconds, system.time(
    fit <- suppressMessages(suppressWarnings(lmer(formula, frame))))[["elapsed"]])
  if (length(seconds) == 1) peak <- status("VmHWM")
  if (sum(seconds) > 20) break
}
named <- function(values) paste0("{", paste(sprintf('"%s": %.12g', names(values), values), collapse = ", "), "}")
table <- as.data.frame(VarCorr(fit))
table <- table[is.na(table$var2), ]
sds <- setNames(table$sdcor, paste(table$grp, ifelse(is.na(table$var1), "", table$var1)))
cat(sprintf(
  '{"objective": %.10f, "seconds": %.6f, "evals": %d, "calls": %d, "n": %d, "fixed": %s, "sds": %s, "rss_before": %.0f, "peak": %.0f, "peak_above": %.0f, "version": "lme4 %s, R %s.%s, BLAS %s"}\n',
  -2 * as.numeric(logLik(fit)), median(seconds), as.integer(fit@optinfo$feval), length(seconds), nobs(fit),
  named(fixef(fit)), named(sds), before, peak, peak - before,
  packageVersion("lme4"), R.version$major, R.version$minor, basename(dirname(extSoftVersion()[["BLAS"]]))))
